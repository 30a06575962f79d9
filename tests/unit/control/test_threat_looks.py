"""What the supervisor's sight and the list of sessions become for threat detection."""

from __future__ import annotations

from typing import Any

from botctl.control.ports import BotSight, FleetSight
from botctl.control.session_feed import SessionFeed
from botctl.control.threat_feeds import Counters, Talkative
from botctl.security.threat.observations import CanaryMet, Flow, LoggedIn, Observation, UserVolume, Volume
from botctl.storage.logins import Session


def _sight(**more: Any) -> FleetSight:
    bot = BotSight(**{"name": "a", "bot_id": 7, "state": "running", "pid": 5, "incarnation": 1, **more})
    return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=(bot,))


def test_each_minute_of_a_talkative_user_is_seen_once() -> None:
    feed = Talkative()
    gauges = {"user:42": 90.0, "user_updates": 100.0, "user_minute": 1.0, "lanes": 3.0}
    seen: list[Observation] = []
    for at in (10.0, 20.0):
        seen += feed.read(_sight(gauges=gauges), at)
    seen += feed.read(_sight(gauges={**gauges, "user_minute": 2.0}), 30.0)
    floods = [one for one in seen if isinstance(one, UserVolume)]
    assert [(one.at, one.user_id, one.count, one.others) for one in floods] == [(10, 42, 90, 10), (30, 42, 90, 10)]


def test_a_bot_that_invents_users_has_few_of_them_judged() -> None:
    gauges = {f"user:{number}": 90.0 for number in range(500)} | {"user:x": 1.0, "user_minute": 1.0}
    seen = Talkative().read(_sight(gauges=gauges), 10.0)
    assert sum(isinstance(one, UserVolume) for one in seen) == 10


def test_tokens_are_what_is_spent_and_canaries_are_counted() -> None:
    feed = Counters()
    feed.read(_sight(counters={"tokens": 100.0}), 10.0)
    seen = feed.read(_sight(counters={"tokens": 700.0, "completions": 3.0, "canaries_held_back": 1.0}), 70.0)
    assert CanaryMet(at=70.0, bot_id=7, count=1) in seen
    assert Volume(at=70.0, bot_id=7, flow=Flow.SPEND, count=600.0, span=60.0) in seen


def _read(feed: SessionFeed, sight: FleetSight, now: float, *sessions: Session) -> list[LoggedIn]:
    seen = feed.read([Session(0, 1, "10.0.0.1", 0.0), *sessions], sight, now)
    return [one for one in seen if isinstance(one, LoggedIn)]


def test_a_session_is_told_once_and_once_more_without_its_process() -> None:
    feed = SessionFeed()
    (first,) = _read(feed, _sight(), 10.0, Session(7, 50, "10.0.0.9", 2.0))
    assert (first.address, first.home, first.age, first.without_process) == ("10.0.0.9", "10.0.0.1", 2.0, None)
    assert _read(feed, _sight(), 15.0, Session(7, 50, "10.0.0.9", 7.0)) == []
    (second,) = _read(feed, _sight(pid=None), 20.0, Session(7, 50, "10.0.0.9", 12.0))
    assert second.without_process == 0.0
    assert _read(feed, _sight(pid=None), 25.0, Session(7, 50, "10.0.0.9", 17.0)) == []
    (other,) = _read(feed, _sight(pid=None), 90.0, Session(7, 51, "", 1.0))
    assert other.without_process == 70.0


def test_who_has_a_process_again_is_not_without_one() -> None:
    feed = SessionFeed()
    _read(feed, _sight(pid=None), 10.0)
    (seen,) = _read(feed, _sight(), 60.0, Session(7, 50, "", 1.0))
    assert seen.without_process is None


def test_who_crashes_again_and_again_is_not_accused_of_his_own_sessions() -> None:
    """Its process came, connected and ended between two looks."""
    feed = SessionFeed()
    _read(feed, _sight(pid=None), 10.0)
    (seen,) = _read(feed, _sight(pid=None, incarnation=2), 60.0, Session(7, 50, "", 1.0))
    assert seen.without_process == 0.0
