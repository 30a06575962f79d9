"""Who takes no updates is told at each threshold, once, and by the same event from whichever `control`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from botctl.bus.event_types.catalogue import CATALOGUE
from botctl.control.watching.parked import ParkedRule, Standing, event_of

HOUR = 3600.0
NORA = Standing(bot_id=7, name="nora", state="stopped", reason="on request", taken_at=1000.0, pending=None)


def test_each_threshold_is_told_once() -> None:
    rule = ParkedRule()
    told = {}
    for minute in range(0, 25 * 60, 10):
        for one in rule.look([NORA], 1000.0 + minute * 60):
            told[minute] = one.threshold / HOUR
    assert told == {6 * 60: 6.0, 12 * 60: 12.0, 20 * 60: 20.0, 23 * 60: 23.0}


def test_a_bot_that_takes_updates_is_not_parked_and_begins_anew() -> None:
    rule = ParkedRule([HOUR])
    assert rule.look([NORA], 1000.0 + 2 * HOUR)
    assert not rule.look([replace(NORA, taken_at=1000.0 + 2 * HOUR)], 1000.0 + 2.5 * HOUR)
    assert rule.parked == {}
    assert rule.seconds == {7: 0.5 * HOUR}
    assert rule.look([replace(NORA, taken_at=1000.0 + 2 * HOUR)], 1000.0 + 3 * HOUR)


def test_while_nothing_waits_at_telegram_nobody_is_told_and_the_time_counts_from_then() -> None:
    rule = ParkedRule([6 * HOUR])
    assert not rule.look([replace(NORA, pending=0)], 1000.0 + 100 * HOUR)
    assert not rule.look([replace(NORA, pending=3)], 1000.0 + 105 * HOUR)
    (parked,) = rule.look([replace(NORA, pending=3)], 1000.0 + 106 * HOUR)
    assert parked.seconds == 6 * HOUR
    assert rule.seconds == {7: 6 * HOUR}


def test_one_that_could_not_be_told_is_told_with_the_next_look() -> None:
    rule = ParkedRule([HOUR])
    (parked,) = rule.look([NORA], 1000.0 + HOUR)
    rule.forget(parked)
    assert len(rule.look([NORA], 1000.0 + HOUR + 60)) == 1
    assert rule.look([NORA], 1000.0 + HOUR + 120) == []


def test_the_next_control_tells_the_same_event() -> None:
    (first,) = ParkedRule().look([NORA], 1000.0 + 7 * HOUR)
    (second,) = ParkedRule().look([NORA], 1000.0 + 8 * HOUR)
    assert event_of(first, 1.0).event_id == event_of(second, 2.0).event_id
    (later,) = ParkedRule().look([NORA], 1000.0 + 13 * HOUR)
    (other,) = ParkedRule().look([replace(NORA, taken_at=2000.0)], 1000.0 + 8 * HOUR)
    assert len({event_of(one, 1.0).event_id for one in (first, later, other)}) == 3


def test_the_event_is_as_the_catalogue_has_it() -> None:
    (parked,) = ParkedRule().look([replace(NORA, pending=12, reason="x\0" * 400)], 1000.0 + 7 * HOUR)
    event = event_of(parked, 1.0)
    CATALOGUE[event.type].data(**event.data)
    assert (event.data["pending"], event.data["threshold_s"], event.data["parked_s"]) == (12, 6 * HOUR, 7 * HOUR)
    assert "\0" not in event.data["reason"]


@pytest.mark.parametrize(
    ("pending", "hours", "words"),
    [
        (None, 6, "has taken no updates for 6.0 h: perhaps some wait at Telegram, which drops the first in 18.0 h"),
        (1, 23.5, "has taken no updates for 23.5 h: 1 waits at Telegram, which drops the first in 30 min"),
        (9, 30, "has taken no updates for 30.0 h: 9 wait at Telegram, which drops them after 24 h: some may be lost"),
    ],
)
def test_what_an_operator_reads(pending: int | None, hours: float, words: str) -> None:
    (parked,) = ParkedRule().look([replace(NORA, pending=pending)], 1000.0 + hours * HOUR)
    assert parked.words == words
