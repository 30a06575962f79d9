"""A relay sends little at first and more while the router keeps up; it waits while too much lies in its out stream."""

from __future__ import annotations

from botctl.bus.pace import FIRST, FIRST_BYTES, MOST, MOST_BYTES, ROOM, Pace


def test_it_grows_while_the_router_keeps_up_and_begins_anew_when_it_does_not() -> None:
    pace = Pace()
    sizes = []
    for _ in range(11):
        sizes.append(pace.rows)
        pace.sent(pace.rows, pace.rows * 300, 0)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, MOST, MOST]
    pace.sent(MOST, MOST * 300, MOST)
    assert (pace.rows, pace.bytes, pace.crowded) == (FIRST, FIRST_BYTES, True)


def test_a_batch_that_was_not_full_says_nothing_of_more() -> None:
    pace = Pace()
    for _ in range(10):
        pace.sent(10, 3000, 0)
    assert pace.rows == 16


def test_it_waits_until_little_enough_lies_there() -> None:
    pace = Pace()
    pace.sent(50, 50 * 1000, 50)
    assert pace.crowded
    pace.look(ROOM // 1150 + 1)
    assert pace.crowded
    pace.look(ROOM // 1150)
    assert not pace.crowded


def test_one_entry_may_lie_there_however_large() -> None:
    pace = Pace()
    pace.sent(1, 64 * 1024, 1)
    assert not pace.crowded
    pace.sent(1, 64 * 1024, 2)
    assert pace.crowded


def test_bytes_are_bounded_too_and_errors_begin_anew() -> None:
    pace = Pace(most=20)
    for _ in range(10):
        pace.sent(20, pace.bytes, 0)
    assert (pace.rows, pace.bytes) == (20, MOST_BYTES)
    pace.slow_down()
    assert (pace.rows, pace.bytes) == (20, FIRST_BYTES)
    pace.feel_the_way()
    assert (pace.rows, pace.bytes) == (1, FIRST_BYTES)
    pace.slow_down()
    assert pace.rows == 1
