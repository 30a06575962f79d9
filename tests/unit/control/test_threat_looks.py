"""What the supervisor's sight and the list of sessions become for threat detection."""

from __future__ import annotations

import os
from typing import Any

from botctl.control.defence.hog_feed import MOST, OURS, HogFeed
from botctl.control.defence.session_feed import SessionFeed
from botctl.control.defence.socket_owners import _owners
from botctl.control.defence.threat_feeds import Counters, Talkative
from botctl.control.ports import BotSight, FleetSight
from botctl.security.threat.observations import (
    CanaryMet,
    ConnectionHog,
    Flow,
    LoggedIn,
    Observation,
    StolenLogin,
    UserVolume,
    Volume,
)
from botctl.storage.logins import CONNECTION_LIMIT, Session


def _sight(**more: Any) -> FleetSight:
    bot = BotSight(**{"name": "a", "bot_id": 7, "state": "running", "pid": 5, "incarnation": 1, **more})
    return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=(bot,))


def test_each_minute_of_a_talkative_user_is_seen_once() -> None:
    feed = Talkative()
    gauges = {"user:42": 90.0, "user_updates": 100.0, "user_minute": 1.0, "lanes": 3.0}
    seen: list[Observation] = list(feed.read(_sight(), 5.0))
    for at in (10.0, 20.0):
        seen += feed.read(_sight(gauges=gauges), at)
    seen += feed.read(_sight(gauges={**gauges, "user_minute": 2.0}), 30.0)
    floods = [one for one in seen if isinstance(one, UserVolume)]
    assert [(one.at, one.user_id, one.count, one.others) for one in floods] == [(10, 42, 90, 10), (30, 42, 90, 10)]


def test_a_minute_that_the_control_before_has_judged_is_not_judged_again() -> None:
    gauges = {"user:42": 90.0, "user_updates": 100.0, "user_minute": 3.0}
    feed = Talkative()
    assert feed.read(_sight(gauges=gauges), 10.0) == []
    assert feed.read(_sight(gauges=gauges), 15.0) == []
    assert len(feed.read(_sight(gauges={**gauges, "user_minute": 4.0}), 70.0)) == 1


def test_a_bot_that_invents_users_has_few_of_them_judged() -> None:
    gauges = {f"user:{number}": 90.0 for number in range(500)} | {"user:x": 1.0, "user_minute": 1.0}
    feed = Talkative()
    feed.read(_sight(), 5.0)
    seen = feed.read(_sight(gauges=gauges), 10.0)
    assert sum(isinstance(one, UserVolume) for one in seen) == 10


def test_tokens_are_what_is_spent_and_canaries_are_counted() -> None:
    feed = Counters()
    feed.read(_sight(counters={"tokens": 100.0}), 10.0)
    seen = feed.read(_sight(counters={"tokens": 700.0, "completions": 3.0, "canaries_held_back": 1.0}), 70.0)
    assert CanaryMet(at=70.0, bot_id=7, count=1) in seen
    assert Volume(at=70.0, bot_id=7, flow=Flow.SPEND, count=600.0, span=60.0) in seen


def _read(feed: SessionFeed, sight: FleetSight, now: float, *sessions: Session) -> list[LoggedIn]:
    seen = feed.read([Session(0, 1, "10.0.0.1", 1, 0.0), *sessions], sight, now)
    return [one for one in seen if isinstance(one, LoggedIn)]


def test_a_session_is_told_once_and_once_more_without_its_process() -> None:
    feed = SessionFeed()
    (first,) = _read(feed, _sight(), 10.0, Session(7, 50, "10.0.0.9", 150, 2.0))
    assert (first.address, first.home, first.age, first.without_process) == ("10.0.0.9", "10.0.0.1", 2.0, None)
    assert _read(feed, _sight(), 15.0, Session(7, 50, "10.0.0.9", 150, 7.0)) == []
    (second,) = _read(feed, _sight(pid=None), 20.0, Session(7, 50, "10.0.0.9", 150, 12.0))
    assert second.without_process == 0.0
    assert _read(feed, _sight(pid=None), 25.0, Session(7, 50, "10.0.0.9", 150, 17.0)) == []
    (other,) = _read(feed, _sight(pid=None), 90.0, Session(7, 51, "", 151, 1.0))
    assert other.without_process == 70.0


def test_who_has_a_process_again_is_not_without_one() -> None:
    feed = SessionFeed()
    _read(feed, _sight(pid=None), 10.0)
    (seen,) = _read(feed, _sight(), 60.0, Session(7, 50, "", 150, 1.0))
    assert seen.without_process is None


def test_who_crashes_again_and_again_is_not_accused_of_his_own_sessions() -> None:
    """Its process came, connected and ended between two looks."""
    feed = SessionFeed()
    _read(feed, _sight(pid=None), 10.0)
    (seen,) = _read(feed, _sight(pid=None, incarnation=2), 60.0, Session(7, 50, "", 150, 1.0))
    assert seen.without_process == 0.0


HERE = ("127.0.0.1", 4000)


def _two(**more: Any) -> FleetSight:
    bots = [BotSight(name=f"bot-{n}", bot_id=n, state="running", pid=n, uid=1000 + n, **more) for n in (7, 8)]
    return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=tuple(bots))


def test_who_is_logged_in_as_another_is_told_at_the_second_look_and_once() -> None:
    feed = SessionFeed()
    seen = []
    for at in (10.0, 15.0, 20.0):
        seen.append(feed.read([Session(7, 50, "127.0.0.1", 4000, at)], _two(), at, {HERE: 1008}))
    told = [[one for one in look if isinstance(one, StolenLogin)] for look in seen]
    assert told == [[], [StolenLogin(at=15.0, bot_id=8, used=7)], []]


def test_ones_own_process_nobodys_and_a_port_that_changed_hands_are_no_theft() -> None:
    feed = SessionFeed()
    owners = ({HERE: 1007}, {HERE: 0}, {}, {HERE: 1008}, {HERE: 1007}, {HERE: 1008})
    for at, owned in enumerate(owners):
        seen = feed.read([Session(7, 50, "127.0.0.1", 4000, 1.0)], _two(), float(at), owned)
        assert not any(isinstance(one, StolenLogin) for one in seen)
    for pid in (51, 52, 53):
        seen = feed.read([Session(7, pid, "127.0.0.1", 4000, 1.0)], _two(), 9.0, {HERE: 1008})
        assert not any(isinstance(one, StolenLogin) for one in seen)


def test_the_kernels_table_is_read_for_connections_to_the_server_alone() -> None:
    lines = [
        "   0: 0100007F:8F71 00000000:0000 0A 00000000:00000000 00:00000000 00000000   77        0 2 1 0 100 0",
        "   1: 0100007F:A0BE 0100007F:1538 01 00000000:00000000 00:00000000 00000000 1008        0 3 1 0 20 4",
        "   2: 0100007F:A0BF 0100007F:1538 06 00000000:00000000 00:00000000 00000000 1008        0 4 1 0 20 4",
        "   3: 0100007F:1538 0100007F:A0BE 01 00000000:00000000 00:00000000 00000000  103        0 5 1 0 20 4",
        "   4: 0100007F:A0C0 0100007F:1539 01 00000000:00000000 00:00000000 00000000 1009        0 6 1 0 20 4",
        "nonsense",
    ]
    assert list(_owners(lines, 0x1538)) == [(("127.0.0.1", 0xA0BE), 1008)]
    within = "0: 0000000000000000FFFF00000200007F:A0BE 0000000000000000FFFF00000100007F:1538 01 0:0 00:0 0 1008 0 3"
    assert list(_owners([within], 0x1538)) == [(("127.0.0.2", 0xA0BE), 1008)]


def test_a_thief_at_another_address_with_the_victims_port_is_told_apart() -> None:
    feed = SessionFeed()
    owners = {("127.0.0.1", 4000): 1007, ("127.0.0.2", 4000): 1008}
    sessions = [Session(7, 50, "127.0.0.1", 4000, 1.0), Session(7, 51, "127.0.0.2", 4000, 1.0)]
    told = [feed.read(sessions, _two(), at, owners) for at in (10.0, 15.0)]
    assert [one for one in told[1] if isinstance(one, StolenLogin)] == [StolenLogin(at=15.0, bot_id=8, used=7)]


def _hogs(feed: HogFeed, sight: FleetSight, *looks: dict[int, int]) -> list[list[tuple[int, int]]]:
    told = []
    for at, counts in enumerate(looks):
        seen = feed.read(counts, sight, float(at)) if feed.suspicious(counts) else []
        told.append([(one.bot_id, one.count) for one in seen if isinstance(one, ConnectionHog)])
    return told


def test_who_holds_many_connections_is_told_at_the_second_look_on_end() -> None:
    most, more = {1007: MOST, 1008: 6}, {1007: MOST + 1, 1008: 6}
    assert _hogs(HogFeed(), _two(), most, most, more, more) == [[], [], [], [(7, MOST + 1)]]
    assert _hogs(HogFeed(), _two(), more, {1007: 4}, more, most, more) == [[]] * 5
    assert _hogs(HogFeed(), _two(), {5: 999}, {5: 999}) == [[], []], "of no bot"


def test_bots_without_uids_are_told_of_together() -> None:
    nobody = FleetSight(
        pid=1,
        state="running",
        started_at=0.0,
        generation=1,
        bots=tuple(BotSight(name=f"{n}", bot_id=n, state="running", pid=n) for n in (7, 8)),
    )
    most = 2 * CONNECTION_LIMIT + OURS + MOST
    here = os.geteuid()
    assert _hogs(HogFeed(), nobody, {here: most}, {here: most}) == [[], []]
    assert _hogs(HogFeed(), nobody, {here: most + 1}, {here: most + 1}) == [[], [(0, most + 1)]]
