"""Lanes: order within a chat, fairness across chats, bounded memory."""

from __future__ import annotations

import dataclasses
import sys

from hypothesis import given
from hypothesis import strategies as st

from botctl.bot.receiving.lanes import Lanes
from botctl.storage.inbox import InboxRow


def row(number: int, lane: str = "chat:1", due: float = 0.0) -> InboxRow:
    return InboxRow(number, f"update:{number}", "message", lane, "{}", "t", next_attempt_at=due)


def test_one_row_of_a_lane_at_a_time_in_order() -> None:
    lanes = Lanes()
    for number in (1, 2):
        lanes.add(row(number), 0.0)
    first = lanes.take(0.0)
    assert first is not None
    assert first.inbox_id == 1
    assert lanes.take(0.0) is None
    lanes.release("chat:1", 0.0)
    second = lanes.take(0.0)
    assert second is not None
    assert second.inbox_id == 2


def test_lanes_take_turns() -> None:
    lanes = Lanes()
    for number, lane in enumerate(["a", "a", "a", "b", "c"], start=1):
        lanes.add(row(number, lane), 0.0)
    order = []
    while (taken := lanes.take(0.0)) is not None:
        order.append(taken.lane)
        lanes.release(taken.lane, 0.0)
    assert order == ["a", "b", "c", "a", "a"]


def test_a_failed_row_keeps_its_lane_waiting_until_it_is_due() -> None:
    lanes = Lanes()
    lanes.add(row(1), 0.0)
    lanes.add(row(2), 0.0)
    taken = lanes.take(0.0)
    assert taken is not None
    lanes.release("chat:1", 0.0, again=dataclasses.replace(taken, attempts=1, next_attempt_at=5.0))
    assert lanes.take(4.9) is None
    assert lanes.wake_at() == 5.0
    again = lanes.take(5.0)
    assert again is not None
    assert (again.inbox_id, again.attempts) == (1, 1)


def test_a_flooding_chat_leaves_room_for_the_others() -> None:
    lanes = Lanes(capacity=10, per_lane=3)
    for number in range(1, 9):
        lanes.add(row(number, "flood"), 0.0)
    assert len(lanes) == 3
    lanes.add(row(9, "quiet"), 0.0)
    assert {lanes.take(0.0).lane, lanes.take(0.0).lane} == {"flood", "quiet"}  # type: ignore[union-attr]


def test_what_is_not_in_memory_is_known_before_the_lane_is_hungry() -> None:
    lanes = Lanes(per_lane=2)
    for number in (1, 2):
        lanes.add(row(number), 0.0)
    assert not lanes.overflowed
    lanes.add(row(3), 0.0)
    assert lanes.overflowed
    assert lanes.hungry() is None
    for _ in range(2):
        lanes.take(0.0)
        lanes.release("chat:1", 0.0)
    lanes.refill("chat:1", [row(3)], 0.0, complete=True)
    assert not lanes.overflowed


def waiting(stored: list[InboxRow], lane: str, handled: list[int], limit: int) -> list[InboxRow]:
    """What the database says of a hungry lane."""
    return [one for one in stored if one.lane == lane and one.inbox_id not in handled][:limit]


def test_an_overflowed_lane_is_hungry_when_it_is_empty_and_goes_on_in_order() -> None:
    lanes = Lanes(per_lane=2)
    stored = [row(number) for number in range(1, 5)]
    for one in stored:
        lanes.add(one, 0.0)
    handled: list[int] = []
    while True:
        while (taken := lanes.take(0.0)) is not None:
            handled.append(taken.inbox_id)
            lanes.release(taken.lane, 0.0)
        name = lanes.hungry()
        if name is None:
            break
        rest = waiting(stored, name, handled, 2)
        lanes.refill(name, rest, 0.0, complete=len(rest) < 2)
    assert handled == [1, 2, 3, 4]


def test_rows_behind_an_overflow_are_not_taken_before_those_in_the_database() -> None:
    lanes = Lanes(per_lane=1)
    for number in (1, 2, 3):
        lanes.add(row(number), 0.0)
    assert lanes.overflowing() == {"chat:1": 1}
    lanes.take(0.0)
    lanes.release("chat:1", 0.0)
    lanes.add(row(4), 0.0)
    assert lanes.take(0.0) is None
    assert lanes.hungry() == "chat:1"


def test_a_row_that_comes_late_goes_before_those_that_have_not_been_begun() -> None:
    lanes = Lanes()
    for number in (5, 7, 9):
        lanes.add(row(number), 0.0)
    assert lanes.take(0.0) is not None
    for number in (8, 2):
        lanes.add(row(number), 0.0)
    order = [5]
    lanes.release("chat:1", 0.0)
    while (taken := lanes.take(0.0)) is not None:
        order.append(taken.inbox_id)
        lanes.release("chat:1", 0.0)
    assert order == [5, 2, 7, 8, 9]


def test_a_late_row_pushes_the_last_one_out_of_a_full_lane() -> None:
    lanes = Lanes(per_lane=2)
    for number in (5, 7):
        lanes.add(row(number), 0.0)
    lanes.add(row(3), 0.0)
    assert sorted(lanes.known) == [3, 5]
    assert lanes.overflowing() == {"chat:1": 5}


def test_of_a_full_lane_with_a_begun_row_nothing_is_asked_for_that_would_be_put_out_again() -> None:
    lanes = Lanes(per_lane=4)
    for number in (9, 10, 11, 12):
        lanes.add(row(number), 0.0)
    lanes.take(0.0)
    for number in (3, 5, 6, 7):
        lanes.add(row(number), 0.0)
    assert sorted(lanes.known) == [3, 5, 6, 9]
    assert lanes.overflowing() == {"chat:1": 6}
    assert not lanes.add(row(7), 0.0)
    alone = Lanes(per_lane=1)
    alone.add(row(9), 0.0)
    alone.take(0.0)
    alone.add(row(3), 0.0)
    assert alone.overflowing() == {"chat:1": 0}


def test_the_next_attempt_of_a_row_keeps_its_place_before_a_late_one() -> None:
    lanes = Lanes()
    lanes.add(row(5), 0.0)
    taken = lanes.take(0.0)
    assert taken is not None
    lanes.release("chat:1", 0.0, again=dataclasses.replace(taken, attempts=1, next_attempt_at=9.0))
    lanes.add(row(2), 0.0)
    assert lanes.take(8.0) is None
    again = lanes.take(9.0)
    assert again is not None
    assert again.inbox_id == 5


def test_a_chat_of_which_nothing_waits_has_its_turn_though_memory_is_full() -> None:
    lanes = Lanes(capacity=3, per_lane=3, reserve=2)
    for number in (1, 2, 3):
        lanes.add(row(number, "flood"), 0.0)
    assert lanes.room == 0
    assert lanes.arrive(row(90, "quiet"), 0.0, previous=None)
    assert {lanes.take(0.0).lane, lanes.take(0.0).lane} == {"flood", "quiet"}  # type: ignore[union-attr]
    assert lanes.arrive(row(91, "third"), 0.0, previous=None)
    assert not lanes.arrive(row(92, "fourth"), 0.0, previous=None), "the reserve is bounded, too"
    assert lanes.room == 0, "and is no room for the backlog"


def test_a_chat_of_which_more_waits_in_the_database_is_read_from_there_in_order() -> None:
    lanes = Lanes()
    assert lanes.arrive(row(90), 0.0, previous=4)
    assert lanes.take(0.0) is None
    assert lanes.hungry() == "chat:1"
    lanes.refill("chat:1", [row(4), row(90)], 0.0, complete=True)
    taken = lanes.take(0.0)
    assert taken is not None
    assert taken.inbox_id == 4
    assert not lanes.overflowed


def test_a_row_goes_into_memory_only_behind_the_one_that_stands_before_it_in_the_database() -> None:
    lanes = Lanes()
    lanes.add(row(1), 0.0)
    assert lanes.arrive(row(2), 0.0, previous=1)
    assert lanes.arrive(row(90), 0.0, previous=50)
    assert sorted(lanes.known) == [1, 2]
    assert lanes.overflowing() == {"chat:1": 2}


def test_a_chat_of_which_nothing_waited_needs_not_queue_behind_all_that_have_a_backlog() -> None:
    lanes = Lanes()
    for number in range(1, 101):
        lanes.add(row(number, f"backlog:{number}"), 0.0)
    for number in (901, 902, 903):
        assert lanes.arrive(row(number, f"fresh:{number}"), 0.0, previous=None)
    order = [lanes.take(0.0).lane.partition(":")[0] for _ in range(8)]  # type: ignore[union-attr]
    assert order == ["fresh", "backlog"] * 3 + ["backlog"] * 2


def test_what_has_waited_at_telegram_is_a_backlog_too() -> None:
    lanes = Lanes(capacity=3, per_lane=3, reserve=2)
    for number in range(1, 4):
        assert lanes.arrive(row(number, f"chat:{number}"), 0.0, previous=None, old=True)
    assert not lanes.arrive(row(4, "chat:4"), 0.0, previous=None, old=True)
    assert lanes.arrive(row(5, "chat:5"), 0.0, previous=None)
    assert lanes.take(0.0).lane == "chat:5"  # type: ignore[union-attr]


def test_who_floods_loses_that_turn() -> None:
    lanes = Lanes(per_lane=2)
    lanes.add(row(1, "backlog:1"), 0.0)
    lanes.add(row(2, "backlog:2"), 0.0)
    for number in range(10, 14):
        lanes.arrive(row(number, "flood"), 0.0, previous=None if number == 10 else number - 1)
    assert [lanes.take(0.0).lane for _ in range(3)] == ["flood", "backlog:1", "backlog:2"]  # type: ignore[union-attr]
    lanes.release("flood", 0.0)
    lanes.add(row(3, "backlog:3"), 0.0)
    lanes.arrive(row(20, "quiet"), 0.0, previous=None)
    assert [lanes.take(0.0).lane for _ in range(3)] == ["quiet", "flood", "backlog:3"]  # type: ignore[union-attr]


def test_a_row_that_was_left_is_not_taken_again() -> None:
    lanes = Lanes()
    lanes.add(row(1), 0.0)
    lanes.take(0.0)
    lanes.release("chat:1", 0.0, left=True)
    lanes.add(row(1), 0.0)
    assert lanes.take(0.0) is None
    assert lanes.known == lanes.left == [1]


def test_looking_for_hungry_lanes_costs_no_more_when_many_wait() -> None:
    """The loop asks after each row: it must not walk through all lanes."""
    lanes = Lanes(capacity=100_000, per_lane=1)
    for number in range(4000):
        lanes.add(row(2 * number + 1, f"chat:{number}"), 0.0)
        lanes.add(row(2 * number + 2, f"chat:{number}"), 0.0)
    steps = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    assert lanes.hungry() is None
    assert lanes.overflowed
    sys.setprofile(None)
    assert steps < 40


def test_a_held_lane_waits_for_its_release() -> None:
    lanes = Lanes()
    lanes.hold("chat:1")
    lanes.add(row(1), 0.0)
    assert lanes.take(0.0) is None
    lanes.release("chat:1", 0.0, finished=False)
    taken = lanes.take(0.0)
    assert taken is not None
    assert taken.inbox_id == 1


def test_what_comes_late_into_a_held_lane_comes_in_its_place() -> None:
    """Nothing of it is under way yet, so nothing has to stay in front."""
    lanes = Lanes()
    lanes.hold("chat:1")
    lanes.add(row(5), 0.0)
    lanes.add(row(3), 0.0)
    lanes.release("chat:1", 0.0, finished=False)
    order = []
    while (taken := lanes.take(0.0)) is not None:
        order.append(taken.inbox_id)
        lanes.release("chat:1", 0.0)
    assert order == [3, 5]


def test_a_row_that_is_known_already_is_ignored() -> None:
    lanes = Lanes()
    lanes.add(row(1), 0.0)
    lanes.add(row(1), 0.0)
    assert len(lanes) == 1


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 4), st.integers(1, 5))
def test_whatever_comes_every_chat_is_handled_completely_and_in_order(
    arrivals: list[str], per_lane: int, concurrent: int
) -> None:
    lanes = Lanes(capacity=50, per_lane=per_lane)
    stored = [row(number, lane) for number, lane in enumerate(arrivals, start=1)]
    for one in stored:
        lanes.add(one, 0.0)
    handled: dict[str, list[int]] = {}
    busy: list[str] = []
    while True:
        while len(busy) < concurrent and (taken := lanes.take(0.0)) is not None:
            assert taken.lane not in busy
            busy.append(taken.lane)
            handled.setdefault(taken.lane, []).append(taken.inbox_id)
        if busy:
            lanes.release(busy.pop(0), 0.0)
        elif (name := lanes.hungry()) is not None:
            rest = waiting(stored, name, handled.get(name, []), per_lane)
            lanes.refill(name, rest, 0.0, complete=len(rest) < per_lane)
        else:
            break
    for lane in set(arrivals):
        assert handled[lane] == [one.inbox_id for one in stored if one.lane == lane]
    assert len(lanes) == 0
