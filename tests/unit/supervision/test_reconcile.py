from __future__ import annotations

from botctl.supervision.backoff import delay, jitter
from botctl.supervision.events import Release, Restart, Unwant, Want
from botctl.supervision.model import Record, State
from botctl.supervision.reconcile import Wanted, reconcile


def test_only_what_changed_is_told_anything():
    current = {1: Wanted("a"), 2: Wanted("b"), 3: Wanted("c"), 4: Wanted("d", enabled=False), 6: Wanted("f")}
    desired = {
        1: Wanted("a"), 2: Wanted("B"), 4: Wanted("d"), 5: Wanted("e"), 6: Wanted("f", enabled=False),
        7: Wanted("g", enabled=False),
    }  # fmt: skip
    plan = reconcile(current, desired, {})
    assert plan.forget == {3}
    assert {key: type(event) for key, event in plan.events.items()} == {
        2: Restart, 3: Unwant, 4: Want, 5: Want, 6: Unwant, 7: Unwant,
    }  # fmt: skip


def test_applying_the_same_fleet_twice_does_nothing():
    fleet = {1: Wanted("a"), 2: Wanted("b", enabled=False)}
    plan = reconcile(fleet, fleet, {})
    assert (plan.events, plan.forget) == ({}, frozenset())


def test_jitter_is_spread_and_repeatable():
    values = [jitter(key, 1) for key in range(1000)]
    assert all(0.5 <= value < 1.0 for value in values)
    assert 0.7 < sum(values) / 1000 < 0.8
    assert jitter(5, 6) == jitter(5, 6) != jitter(5, 7)


def test_a_delay_never_overflows():
    assert delay(0.1, 30.0, 10**6, key=1, turn=1) <= 30.0


def test_a_new_configuration_frees_a_bot_that_failed_with_the_old_one_and_starts_nobody_else():
    current = {key: Wanted("old") for key in (1, 2, 3)}
    records = {
        1: Record(1, state=State.QUARANTINED, wanted=True),
        2: Record(2, state=State.QUARANTINED, wanted=True, shut_away=True),
        3: Record(3, state=State.STOPPED),
    }
    plan = reconcile(current, {key: Wanted("new") for key in (1, 2, 3)}, records)
    assert {key: type(event) for key, event in plan.events.items()} == {1: Release, 2: Restart}


def test_a_disabled_bot_that_somebody_started_is_stopped_by_the_next_fleet():
    off = {1: Wanted("a", enabled=False)}
    assert reconcile(off, off, {1: Record(1, state=State.STOPPED)}).events == {}
    assert type(reconcile(off, off, {1: Record(1, state=State.RUNNING, wanted=True)}).events[1]) is Unwant
