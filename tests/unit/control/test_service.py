"""What the API asks of `control`, with doubles of the supervisor and of the keepers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from botctl.bus.routing.stats import RouterStats
from botctl.control.ports import BotSight, FleetSight
from botctl.control.samples import fleet_sample
from botctl.control.service import Service
from botctl.errors import RefusedError, UsageError
from botctl.observability.metrics import render

SIGHT = FleetSight(
    pid=1, state="running", started_at=100.0, generation=2,
    gauges={"held_back": 2.0, "longest_turn_ms": 12.5, "something_new": 1.0},
    bots=(
        BotSight(name="a", bot_id=1, state="quarantined"),
        BotSight(name="b", bot_id=2, state="quarantined", shut_away=True),
        BotSight(name="c", bot_id=3, state="running"),
        BotSight(name="d", bot_id=4, state="quarantined"),
    ),
)  # fmt: skip


class Double:
    """Supervisor, rollouts and starts in one; remembers what it was told."""

    def __init__(self, sight: FleetSight | None = None) -> None:
        self.told: list[tuple[str, ...]] = []
        self.running, self.says = False, ""
        self._sight = sight

    async def sight(self) -> FleetSight:
        if self._sight is None:
            raise TimeoutError
        return self._sight

    async def command(self, verb: str, name: str, reason: str) -> tuple[bool, str]:
        self.told.append((verb, name))
        return True, ""

    async def by_command(self, verb: str, name: str, sight: FleetSight) -> None:
        self.told.append(("from disk", verb, name))

    def refuse_beside(self, what: str) -> None:
        if self.running:
            raise RefusedError(what)


def service(double: Double, problems: tuple[str, ...] = ()) -> Service:
    given: dict[str, Any] = dict.fromkeys(("engine", "database", "historian", "topology", "streams", "router_stats"))
    given |= {"supervisor": double, "rollouts": double, "starts": double, "telegram_pending": {}, "version": "9"}
    keeper = SimpleNamespace(fleet=None, awaited=None, failed={}, shut={}, ignored_now=lambda now: {})
    told = {("bad_events", "watch"): 3}
    given["quarantine"], given["threats"] = None, SimpleNamespace(told=told, score=lambda bot_id: 0.0)
    given["vault"] = SimpleNamespace(rotated=frozenset())
    return Service(keeper=keeper, problems=lambda: list(problems), **given)  # type: ignore[arg-type]


async def test_releasing_all_leaves_who_was_shut_away_on_purpose() -> None:
    double = Double(SIGHT)
    answer = await service(double).command("release", "")
    assert double.told == [("from disk", "release", ""), ("release", "a"), ("release", "d")]
    assert answer.message == "released: a, d; shut away on purpose, so to be released by name: b"


async def test_releasing_all_is_refused_beside_a_rolling_restart_and_may_find_nobody() -> None:
    double = Double(replace(SIGHT, bots=()))
    assert (await service(double).command("release", "")).message == "no bot is quarantined for its failures"
    double.running = True
    with pytest.raises(RefusedError):
        await service(double).command("release", "")
    assert double.told == []


async def test_health_names_the_open_breaker_and_a_silent_supervisor() -> None:
    assert (await service(Double(SIGHT)).health()).ok
    held = await service(Double(replace(SIGHT, breaker="7 of 9 bots failed")), ("redis: away",)).health()
    assert (held.ok, held.problems) == (False, ["redis: away", "fleet breaker: 7 of 9 bots failed"])
    silent = await service(Double()).health()
    assert (silent.ok, silent.problems) == (False, ["the supervisor does not answer"])


async def test_the_status_says_what_a_rolling_restart_does() -> None:
    double = Double(SIGHT)
    double.says = "wave 2 of 20: a running"
    assert (await service(double).status()).daemon.rollout == "wave 2 of 20: a running"


@pytest.mark.parametrize(("breaker", "open_"), [("7 of 9 bots failed", 1), ("", 0)])
def test_the_breaker_and_the_supervisors_own_gauges_are_metrics(breaker: str, open_: int) -> None:
    sample = fleet_sample(
        replace(SIGHT, breaker=breaker), version="9", pending={}, journal={}, router=RouterStats(), now=110.0
    )
    told = render(sample).decode().splitlines()
    assert f"botctl_breaker_open {open_}.0" in told
    assert "botctl_supervisor_held_back 2.0" in told
    assert "botctl_supervisor_longest_turn_seconds 0.0125" in told
    assert not any("something_new" in line for line in told)


async def test_verdicts_of_threat_detection_are_counted_in_the_metrics() -> None:
    control = service(Double(SIGHT))
    control._keeper.shut = {2: None}  # type: ignore[dict-item]
    control._journal_counts = _no_counts  # type: ignore[method-assign]
    control._router_stats = RouterStats()
    said = (await control.metrics()).decode()
    assert 'botctl_threats_detected_total{action="watch",rule="bad_events"} 3.0' in said
    assert "botctl_bots_shut_away 1.0" in said


async def _no_counts() -> dict[str, dict[int, int]]:
    return {}


async def test_who_is_shut_away_is_released_and_nothing_else() -> None:
    double = Double(SIGHT)
    control = service(double)
    control._keeper.bot = lambda name: SimpleNamespace(bot_id=2)  # type: ignore[method-assign]
    control._keeper.shut = {2: SimpleNamespace(reason="for a reason")}  # type: ignore[dict-item]
    for verb in ("start", "restart"):
        with pytest.raises(RefusedError, match="for a reason"):
            await control.command(verb, "b")
    assert double.told == []


async def test_a_whole_fleet_is_not_quarantined() -> None:
    with pytest.raises(UsageError):
        await service(Double(SIGHT)).command("quarantine", "")
