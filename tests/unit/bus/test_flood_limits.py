"""What one bot may publish, and how much memory streams may take."""

from __future__ import annotations

import math

from botctl.bus.caretaking.room import fair_level
from botctl.bus.routing.allowance import LOOKS, OVERHEAD, Allowance


def test_a_bot_may_publish_a_burst_and_then_what_its_rate_allows() -> None:
    now = [100.0]
    allowance = Allowance(lambda: now[0], burst=10_000, rate=1_000)
    allowance.spend(1, 1, 10_000 - OVERHEAD)
    assert not allowance.exhausted(1)
    allowance.spend(1, 1, 2_000 - OVERHEAD)
    assert allowance.exhausted(1)
    assert not allowance.exhausted(2)
    now[0] += 2.0
    assert not allowance.exhausted(1)
    allowance.spend(1, 1, 1_000)
    assert allowance.exhausted(1)
    now[0] += 100.0
    allowance.spend(1, 1, 9_000)
    assert not allowance.exhausted(1), "unused time is not saved up, but the whole burst is there again"


def test_small_events_are_counted_too() -> None:
    now = [100.0]
    allowance = Allowance(lambda: now[0], events=50, events_rate=10)
    allowance.spend(1, 50, 50)
    assert not allowance.exhausted(1)
    allowance.spend(1, 10, 10)
    assert allowance.exhausted(1)
    assert not allowance.exhausted(2)
    now[0] += 1.0
    assert not allowance.exhausted(1)


def test_copies_in_the_mailboxes_of_many_receivers_are_counted() -> None:
    now = [100.0]
    allowance = Allowance(lambda: now[0], copies=1_000_000, copies_rate=100_000)
    assert not allowance.routed(1, copies=500 * 2_000, looks=0)
    assert allowance.routed(1, copies=500 * 2_000, looks=0)
    assert allowance.exhausted(1)
    assert not allowance.exhausted(2)
    now[0] += 10.0
    assert not allowance.exhausted(1)


def test_types_that_nobody_knows_cost_as_much_as_the_events_they_hold_up() -> None:
    allowance = Allowance(lambda: 100.0, events=100, events_rate=1)
    assert not allowance.routed(1, copies=0, looks=LOOKS - 1)
    assert not allowance.routed(1, copies=0, looks=100 * LOOKS)
    assert allowance.routed(1, copies=0, looks=LOOKS)


def test_only_the_large_are_cut_so_that_all_keep_to_the_budget() -> None:
    assert fair_level([10, 20, 30], 60) == math.inf
    assert fair_level([10, 20, 1000], 60) == 30
    assert fair_level([10, 500, 1000], 60) == 25
    assert fair_level([], 60) == math.inf
