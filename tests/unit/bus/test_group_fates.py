"""What becomes of a group's entries that nobody acknowledges."""

from __future__ import annotations

from botctl.bus.events import Event
from botctl.bus.reading.groups import IDLE, MOST_DELIVERIES, Fate, judge

OLD, YOUNG = int(IDLE * 1000), int(IDLE * 1000) - 1


def test_what_is_young_is_left_to_its_member() -> None:
    assert judge([(b"1-0", YOUNG, 1), (b"2-0", 0, MOST_DELIVERIES)], {}) == Fate({}, {}, {})


def test_what_was_left_is_handed_out_anew_and_twice_left_with_care() -> None:
    assert judge([(b"1-0", OLD, 1), (b"2-0", OLD, 2)], {}) == Fate({b"1-0": 1}, {b"2-0": 2}, {})
    assert judge([(b"1-0", OLD, 1)], {b"1-0": 3}) == Fate({}, {b"1-0": 4}, {})


def test_what_nobody_survives_is_given_up_also_while_one_member_dies_of_it_again_and_again() -> None:
    assert judge([(b"1-0", OLD, MOST_DELIVERIES)], {}).dead == {b"1-0": MOST_DELIVERIES}
    assert judge([(b"1-0", OLD, 1)], {b"1-0": MOST_DELIVERIES - 1}).dead == {b"1-0": MOST_DELIVERIES}
    assert judge([(b"1-0", 0, MOST_DELIVERIES + 1)], {}).dead == {b"1-0": MOST_DELIVERIES + 1}


def test_a_replay_has_a_cause_of_its_own() -> None:
    plain = Event(id="x", type="a.b", occurred_at=1)
    assert (plain.cause, Event(id="x", type="a.b", occurred_at=1, replay="r1").cause) == ("event:x", "event:x@r1")
