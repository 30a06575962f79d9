"""The figures of `/metrics`, from what the supervisor sees and what `control` counts. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from botctl.bus.routing.stats import RouterStats
from botctl.control.ports import BotSight, FleetSight
from botctl.observability.metrics import BotSample, FleetSample, ServiceSample


def fleet_sample(
    sight: FleetSight,
    *,
    version: str,
    pending: Mapping[int, int],
    journal: Mapping[str, Mapping[int, int]],
    router: RouterStats,
    now: float,
    threats: Mapping[tuple[str, str], int] = MappingProxyType({}),
    shut_away: int = 0,
    waiting: Mapping[int, int] = MappingProxyType({}),
    cost: Mapping[int, float] = MappingProxyType({}),
    parked: Mapping[int, float] = MappingProxyType({}),
) -> FleetSample:
    """`pending` are updates that Telegram holds, by bot_id; `journal` counters that outlive a process, likewise.

    `threats` are verdicts by rule and action. `waiting` are dead letters that wait, `cost` what completions have cost
    where prices are set, both by bot_id; `parked` the seconds for which updates may have been waiting.
    """
    return FleetSample(
        version=version,
        state=sight.state,
        uptime_s=max(0.0, now - sight.started_at),
        bots=[_bot(bot, pending, journal, waiting, cost, parked) for bot in sight.bots],
        services=[ServiceSample(name=one.name, state=one.state, restarts=one.restarts) for one in sight.services],
        bus={
            "routed": router.routed,
            "delivered": router.delivered,
            "rejected": router.rejected,
            "duplicates": router.duplicates,
            "dropped": router.dropped,
            "replaced_streams": router.replaced_streams,
            "vanished": router.vanished,
            "paused_bots": router.paused_bots,
            "requests": router.requests,
            "replies": router.replies,
            "refused_requests": router.refused_requests,
            "expired_requests": router.expired,
            "remade_mailboxes": router.remade_mailboxes,
            "group_taken_over": router.taken_over,
            "group_given_up": router.given_up,
            "healthy": float(router.healthy),
            "doorbell": float(router.doorbell),
        },
        breaker_open=bool(sight.breaker),
        supervisor=sight.gauges,
        threats=threats,
        shut_away=shut_away,
    )


def _bot(
    bot: BotSight,
    pending: Mapping[int, int],
    journal: Mapping[str, Mapping[int, int]],
    waiting: Mapping[int, int],
    cost: Mapping[int, float],
    parked: Mapping[int, float],
) -> BotSample:
    spent = {"completion_cost": cost[bot.bot_id]} if bot.bot_id in cost else {}
    letters = {"dead_letters": float(waiting.get(bot.bot_id, 0))}
    age = {"heartbeat_age_s": bot.heartbeat_age} if bot.heartbeat_age is not None else {}
    return BotSample(
        name=bot.name,
        bot_id=bot.bot_id,
        state=bot.state,
        restarts=bot.restarts,
        telegram_pending=pending.get(bot.bot_id),
        parked_s=parked.get(bot.bot_id),
        gauges=bot.gauges | age | letters,
        counters=bot.counters | spent | {name: float(counts.get(bot.bot_id, 0)) for name, counts in journal.items()},
    )
