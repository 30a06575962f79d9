"""Who floods a bot: counted by the minute in bounded room, and set aside for a time."""

from __future__ import annotations

from botctl.bot.receiving.ignored import Ignored
from botctl.security.threat import talkers
from botctl.security.threat.talkers import Talkers


def test_the_talkative_of_the_last_minute_are_told_with_all_others_together() -> None:
    seen = Talkers()
    for number in range(100):
        seen.saw(7, number * 0.5)
        if number % 2:
            seen.saw(1000 + number, number * 0.5)
    assert seen.gauges(59.9) == {}
    assert seen.gauges(60.0) == {"user:7": 100.0, "user_updates": 150.0, "user_minute": 1.0}
    assert seen.gauges(100.0) == {"user:7": 100.0, "user_updates": 150.0, "user_minute": 1.0}
    assert seen.gauges(125.0) == {}


def test_who_is_quiet_or_nobody_is_not_told() -> None:
    seen = Talkers()
    for number in range(29):
        seen.saw(7, float(number))
        seen.saw(None, float(number))
    assert seen.gauges(61.0) == {}


def test_a_minute_of_long_ago_is_not_told() -> None:
    seen = Talkers()
    for _ in range(100):
        seen.saw(7, 0.0)
    assert seen.gauges(500.0) == {}


def test_any_number_of_users_takes_bounded_room_and_does_not_hide_who_floods() -> None:
    seen = Talkers()
    for number in range(3 * talkers.MOST_USERS):
        seen.saw(number, 1.0)
        if number % 20 == 0:
            seen.saw(10**9, 1.0)
    assert len(seen._counts) <= talkers.MOST_USERS
    assert seen.gauges(60.0 + 1.0)[f"{talkers.PREFIX}{10**9}"] > 200


def test_a_user_is_set_aside_until_his_time_is_over() -> None:
    ignored = Ignored({"7": 100.0})
    assert ignored.holds(7, 99.0)
    assert not ignored.holds(7, 100.0)
    assert not ignored.holds(8, 99.0)
    assert not ignored.holds(None, 99.0)


def test_what_is_told_anew_replaces_what_was_and_nonsense_changes_nothing() -> None:
    ignored = Ignored({"7": 100.0})
    assert ignored.take({"8": 100.0})
    assert not ignored.holds(7, 1.0)
    for nonsense in (None, 5, {"x": 1}, {"7": "soon"}, [7]):
        assert not ignored.take(nonsense)
    assert ignored.holds(8, 1.0)
    assert not ignored.take({"8": 100.0})
    assert ignored.take({})
    assert len(ignored) == 0


def test_the_log_has_one_line_when_it_begins_one_a_minute_and_one_when_it_ends() -> None:
    ignored = Ignored({"7": 200.0})
    assert [ignored.is_first(7, float(at)) for at in range(3)] == [True, False, False]
    assert ignored.due(59.0) == []
    assert ignored.due(60.0) == [(7, 2)]
    assert ignored.due(130.0) == []
    assert not ignored.is_first(7, 190.0)
    assert ignored.due(200.0) == [(7, 1)]
    assert ignored.due(201.0) == []
    ignored.take({"7": 900.0})
    assert ignored.is_first(7, 300.0)
