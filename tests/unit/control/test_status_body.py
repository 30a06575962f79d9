"""The status body: the fleet file's order, what the supervisor sees, and what has not been made yet."""

from __future__ import annotations

from dataclasses import replace

from botctl.control.advice import advice_in_trouble, is_held_back
from botctl.control.ports import BotSight, FleetSight, ServiceSight
from botctl.control.status import status_body
from botctl.control.views import StatusBody
from botctl.fleet import BotSpec, Fleet
from botctl.storage.quarantines import Quarantined
from botctl.supervision.breaker import Breaker, BreakerPolicy


def fleet(*names: str) -> Fleet:
    return Fleet(
        bots=tuple(
            BotSpec.model_validate({"name": name, "token": f"{number}:abc"}) for number, name in enumerate(names, 1)
        )
    )


def body(sight: FleetSight, wanted: Fleet | None, failed: dict[str, str] | None = None) -> StatusBody:
    return status_body(sight, wanted, failed or {}, ["redis: away"], version="9", control_pid=5, now=110.0)


def sight(*bots: BotSight) -> FleetSight:
    services = (ServiceSight(name="postgres", state="running", pid=3),)
    return FleetSight(pid=1, state="running", started_at=100.0, generation=2, bots=bots, services=services)


def test_figures_of_a_running_bot_are_shown() -> None:
    running = BotSight(
        name="a", bot_id=1, state="running", pid=44, incarnation=2, restarts=1, last_failure="signal", since=105.0,
        started_at=104.0, heartbeat_age=0.5,
        gauges={"pss_mb": 17.666, "own_mb": 1.234, "inbox_depth": 3.0, "outbox_depth": 0.0},
    )  # fmt: skip
    shown = body(sight(running), fleet("a")).bots[0]
    assert (shown.pid, shown.restarts, shown.last_failure) == (44, 1, "signal")
    assert (shown.memory_mb, shown.own_mb, shown.inbox_depth, shown.outbox_depth) == (17.67, 1.23, 3, 0)
    assert (shown.uptime_s, shown.since_s) == (6.0, 5.0)


def test_a_bot_that_is_gone_shows_no_figures_of_its_last_life() -> None:
    stopped = BotSight(name="a", bot_id=1, state="stopped", gauges={"pss_mb": 17.0, "inbox_depth": 3.0})
    shown = body(sight(stopped), fleet("a")).bots[0]
    assert (shown.memory_mb, shown.inbox_depth) == (None, None)


def test_a_bot_that_was_rolled_back_names_the_copy_of_its_code() -> None:
    back = BotSight(name="a", bot_id=1, state="running", code="/var/lib/botctl/code/0f3a")
    assert [bot.code for bot in body(sight(back), fleet("a", "b")).bots] == ["0f3a", ""]


def test_a_bot_that_is_kept_off_redis_says_why_and_for_how_long() -> None:
    said = "completion api: unreachable; redis refuses the login; events wait in the database"
    bots = (
        BotSight(name="a", bot_id=1, state="degraded", pid=7, reason=said),
        BotSight(name="b", bot_id=2, state="running", pid=8),
        BotSight(name="c", bot_id=3, state="stopped"),
    )
    off = dict.fromkeys((1, 2, 3), ("25 connections; 24 are allowed", 11.4))
    shown = status_body(
        sight(*bots), fleet("a", "b", "c"), {}, [], version="9", control_pid=5, now=110.0, kept_off=off
    ).bots
    says = "kept off Redis by botctl for 12 s more (25 connections; 24 are allowed); events wait in the database"
    assert [bot.reason for bot in shown] == [f"completion api: unreachable; {says}", says, ""]
    assert (shown[0].kept_off_redis, shown[0].kept_off_redis_s) == off[1]
    assert shown[2].kept_off_redis == ""
    assert any("more of Redis than a bot may" in todo for todo in advice_in_trouble(shown[0].reason))
    assert not any("Look at Redis" in todo for todo in advice_in_trouble(shown[0].reason))


def test_a_bot_that_was_shut_away_on_purpose_is_told_from_one_that_failed() -> None:
    bots = [
        BotSight(name=name, bot_id=n, state="quarantined", shut_away=name == "b") for n, name in ((1, "a"), (2, "b"))
    ]
    assert [bot.shut_away for bot in body(sight(*bots), fleet("a", "b")).bots] == [False, True]


def test_a_wanted_bot_without_credentials_says_why() -> None:
    shown = body(sight(), fleet("a", "b"), {"b": "role exists"}).bots
    assert [(bot.name, bot.state) for bot in shown] == [("a", "configured"), ("b", "configured")]
    assert "role exists" in shown[1].reason


def test_a_removed_bot_is_shown_until_it_has_ended() -> None:
    leaving = BotSight(name="old", bot_id=99, state="stopping", pid=7)
    assert [bot.name for bot in body(sight(leaving), fleet("a")).bots] == ["a", "old"]


def test_the_daemon_is_shown_before_any_fleet_was_applied() -> None:
    shown = body(sight(), None)
    assert (shown.daemon.pid, shown.daemon.uptime_s, shown.daemon.problems) == (1, 10.0, ["redis: away"])
    assert shown.bots == []
    assert shown.services[0].name == "postgres"


def test_the_open_breaker_is_a_problem_and_marks_whom_it_holds() -> None:
    breaker = Breaker(BreakerPolicy())
    for key in (1, 2, 3):
        breaker.failed(key, 3, 0.0)
    assert is_held_back(breaker.reason)
    held = BotSight(name="a", bot_id=1, state="backoff", reason=breaker.reason)
    alone = BotSight(name="b", bot_id=2, state="backoff", reason="ValueError: restarts")
    shown = body(replace(sight(held, alone), breaker=breaker.reason), fleet("a", "b"))
    assert shown.daemon.breaker == breaker.reason
    assert shown.daemon.problems == ["redis: away", f"fleet breaker: {breaker.reason}"]
    assert [bot.held_back for bot in shown.bots] == [True, False]
    assert body(sight(), None).daemon.breaker == ""


def test_a_bot_that_was_shut_away_before_the_daemon_began_is_shown_so() -> None:
    told = {1: Quarantined(at=50.0, by="operator", reason="for a reason")}
    shown = status_body(sight(), fleet("a", "b"), {}, [], version="9", control_pid=5, now=110.0, shut=told).bots
    assert [(bot.state, bot.shut_away) for bot in shown] == [("quarantined", True), ("configured", False)]
    assert (shown[0].reason, shown[0].since_s) == ("for a reason", 60.0)


def test_scores_of_threat_detection_and_users_set_aside_are_shown() -> None:
    shown = status_body(
        sight(),
        fleet("a", "b"),
        {},
        [],
        version="9",
        control_pid=5,
        now=110.0,
        score=lambda bot_id: 4.26 if bot_id == 1 else 0.0,
        ignored={1: {42: 200.0}},
    ).bots
    assert [(bot.threat_score, bot.ignored_users) for bot in shown] == [(4.3, 1), (0.0, 0)]
