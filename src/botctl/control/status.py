"""The status body, from what the supervisor sees and what `control` wants. Pure: the time is an argument."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from botctl.control.advice import KEPT_OFF_REDIS, is_held_back
from botctl.control.ports import BotSight, FleetSight
from botctl.control.views import BotView, DaemonView, ServiceView, StatusBody
from botctl.control.watching.parked import Parked
from botctl.fleet import BotSpec, Fleet
from botctl.storage.quarantines import Quarantined

_AWAY = re.compile(r"redis [^;]*; events wait in the database")
"""What a bot says that can't use Redis (`bot.exchange.bus_link`)."""


def status_body(
    sight: FleetSight,
    fleet: Fleet | None,
    failed: Mapping[str, str],
    problems: list[str],
    *,
    version: str,
    control_pid: int,
    now: float,
    rollout: str = "",
    rotated: Collection[int] = (),
    shut: Mapping[int, Quarantined] = MappingProxyType({}),
    score: Callable[[int], float] = lambda bot_id: 0.0,
    ignored: Mapping[int, Collection[int]] = MappingProxyType({}),
    kept_off: Mapping[int, tuple[str, float]] = MappingProxyType({}),
    dead_letters: Mapping[int, int] = MappingProxyType({}),
    parked: Mapping[int, Parked] = MappingProxyType({}),
) -> StatusBody:
    """Bots in the fleet file's order, then those the supervisor is still ending.

    `rollout` is what a rolling restart under way says; `rotated` are bots with a token that is not the file's, `shut`
    those that are shut away on purpose, which after a restart the supervisor doesn't know. `score` is that of threat
    detection, `ignored` are users set aside, by bot_id; `kept_off` says why bots are kept off Redis, and for how many
    seconds more. `dead_letters` are those that wait; `parked` are bots that take no updates.
    """
    specs = fleet.bots if fleet is not None else ()
    wanted = {spec.bot_id for spec in specs}
    bots = [_bot(spec, sight.bot(spec.bot_id), failed, shut, now) for spec in specs]
    bots += [_sighted(bot, True, now) for bot in sight.bots if bot.bot_id not in wanted]
    for bot in bots:
        bot.token = "rotated" if bot.bot_id in rotated else "file"
        bot.threat_score = round(score(bot.bot_id), 1)
        bot.dead_letters = dead_letters.get(bot.bot_id, 0)
        bot.ignored_users = len(ignored.get(bot.bot_id, ()))
        if bot.pid is not None and (off := kept_off.get(bot.bot_id)) is not None:
            _kept_off(bot, *off)
        if (one := parked.get(bot.bot_id)) is not None:
            bot.reason = f"{bot.reason}; {one.words}" if bot.reason else one.words
    return StatusBody(
        daemon=DaemonView(
            pid=sight.pid,
            state=sight.state,
            version=version,
            uptime_s=round(max(0.0, now - sight.started_at), 3),
            control_pid=control_pid,
            generation=sight.generation,
            problems=problems + breaker_problems(sight),
            breaker=sight.breaker,
            rollout=rollout,
        ),
        bots=bots,
        services=[
            ServiceView(name=one.name, state=one.state, reason=one.reason, pid=one.pid, restarts=one.restarts)
            for one in sight.services
        ],
    )


def breaker_problems(sight: FleetSight) -> list[str]:
    """What the open fleet breaker is to an operator; nothing while it is closed."""
    return [f"fleet breaker: {sight.breaker}"] if sight.breaker else []


def _bot(
    spec: BotSpec, sight: BotSight | None, failed: Mapping[str, str], shut: Mapping[int, Quarantined], now: float
) -> BotView:
    if sight is not None:
        return _sighted(sight, spec.enabled, now)
    if (told := shut.get(spec.bot_id)) is not None:
        return BotView(
            name=spec.name,
            bot_id=spec.bot_id,
            state="quarantined",
            reason=told.reason,
            since_s=_rounded(now - told.at),
            enabled=spec.enabled,
            shut_away=True,
        )
    why = failed.get(spec.name)
    reason = f"no credentials yet: {why}" if why is not None else "being prepared"
    return BotView(name=spec.name, bot_id=spec.bot_id, state="configured", reason=reason, enabled=spec.enabled)


def _sighted(bot: BotSight, enabled: bool, now: float) -> BotView:
    gauges = bot.gauges if bot.pid is not None else {}  # of a process that is gone they say nothing
    return BotView(
        name=bot.name,
        bot_id=bot.bot_id,
        state=bot.state,
        reason=bot.reason,
        pid=bot.pid,
        restarts=bot.restarts,
        last_failure=bot.last_failure,
        last_failure_at=bot.last_failure_at,
        last_exit=bot.last_exit,
        memory_mb=_rounded(gauges.get("pss_mb")),
        own_mb=_rounded(gauges.get("own_mb")),
        inbox_depth=_whole(gauges.get("inbox_depth")),
        outbox_depth=_whole(gauges.get("outbox_depth")),
        incarnation=bot.incarnation,
        uptime_s=_rounded(now - bot.started_at if bot.started_at is not None else None),
        since_s=_rounded(now - bot.since if bot.since else None),
        heartbeat_age_s=_rounded(bot.heartbeat_age),
        last_poll_age_s=_rounded(gauges.get("last_poll_age_s")),
        enabled=enabled,
        wanted=bot.wanted,
        code=bot.code.rpartition("/")[2],
        shut_away=bot.shut_away,
        isolation=bot.isolation or None,
        isolation_note=bot.isolation_note,
        uid=bot.uid or None,
        held_back=bot.state == "backoff" and is_held_back(bot.reason),
        counters=bot.counters,
    )


def _kept_off(bot: BotView, why: str, seconds: float) -> None:
    """The bot itself sees only that Redis refuses it, and perhaps not yet."""
    bot.kept_off_redis, bot.kept_off_redis_s = why, _rounded(seconds)
    says = f"{KEPT_OFF_REDIS} for {math.ceil(seconds)} s more ({why}); events wait in the database"
    if _AWAY.search(bot.reason):
        bot.reason = _AWAY.sub(lambda _: says, bot.reason)
    else:
        bot.reason = f"{bot.reason}; {says}" if bot.reason else says


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(max(0.0, value), 2)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
