"""Bringing the database's and the file's records together: which are of one end, and which run a record closes."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.control.fleet.history import from_file, is_planned, late_ends, merged, tell_from_file
from botctl.control.ports import Transition
from botctl.control.views import DeathBody, DeathsBody
from botctl.storage.runs import OpenRun

NOW = 1_000_000.0


def filed(incarnation: int, at: float, **more: Any) -> Transition:
    given: dict[str, Any] = {
        "seq": incarnation, "name": "a", "bot_id": 7, "from_state": "running", "to_state": "backoff", "reason": "why",
        "exit": "exit 1", "failure": "crash", "duration": 10.0,
    }  # fmt: skip
    return Transition(incarnation=incarnation, at=at, **(given | more))


def stored(incarnation: int, at: float, **more: Any) -> DeathBody:
    return from_file(filed(incarnation, at, **more)).model_copy(update={"source": "database"})


def test_an_open_run_is_closed_by_the_record_of_its_own_end() -> None:
    mine, other = filed(3, 100.0), filed(4, 200.0)
    run = OpenRun(7, 55, 3, 90.4)
    (end,) = late_ends([run], [other, mine])
    assert (end.run, end.death) == (run, mine)


@pytest.mark.parametrize(
    ("run", "record"),
    [
        (OpenRun(7, 1, 3, 90.0), filed(3, 101.5)),  # an incarnation of that number, of another daemon
        (OpenRun(7, 1, 3, 90.0), filed(2, 100.0)),
        (OpenRun(8, 1, 3, 90.0), filed(3, 100.0)),
        (OpenRun(7, 1, 3, 90.0), filed(3, 100.0, duration=None)),
    ],
)
def test_the_record_of_another_end_closes_nothing(run: OpenRun, record: Transition) -> None:
    assert late_ends([run], [record]) == []


def test_what_both_have_is_told_once_and_as_the_database_has_it() -> None:
    told = merged([stored(2, 200.0), stored(1, 100.0)], [from_file(filed(3, 300.0)), from_file(filed(2, 200.4))])
    assert [(death.incarnation, death.source) for death in told] == [(3, "file"), (2, "database"), (1, "database")]


def test_the_same_incarnation_at_another_time_is_another_death() -> None:
    told = merged([stored(1, 100.0)], [from_file(filed(1, 500.0))])
    assert [death.ended_at for death in told] == [500.0, 100.0]


def test_ends_that_were_asked_for_are_left_out_unless_wanted_but_the_last_one_is_known() -> None:
    records = [filed(3, 300.0, failure=None, exit="exit 0"), filed(2, 200.0), filed(1, 100.0)]
    body = DeathsBody(name="a")
    tell_from_file(body, records, [], 5, False, now=NOW)
    assert [death.incarnation for death in body.deaths] == [2, 1]
    assert body.last_end is not None
    assert body.last_end.incarnation == 3
    tell_from_file(body, records, [], 2, True, now=NOW)
    assert [death.incarnation for death in body.deaths] == [3, 2]


def test_the_end_of_a_killed_daemon_is_not_taken_for_planned() -> None:
    assert is_planned(stored(1, 1.0, failure=None, exit="signal 15"))
    assert not is_planned(stored(1, 1.0, failure=None, exit="unknown"))


def test_failures_of_the_last_day_are_counted_by_class() -> None:
    records = [
        filed(5, NOW - 10, failure="hang"), filed(4, NOW - 20), filed(3, NOW - 30), filed(2, NOW - 40, failure=None),
        filed(1, NOW - 90_000),
    ]  # fmt: skip
    body = DeathsBody(name="a")
    tell_from_file(body, records, [], 1, False, now=NOW)
    assert body.failures_24h == {"hang": 1, "crash": 2}


def test_a_record_without_a_cause_is_told_by_its_reason() -> None:
    assert from_file(filed(1, 100.0)).cause == "why"
    assert from_file(filed(1, 100.0, cause="because")).cause == "because"
    assert from_file(filed(1, 100.0)).started_at == 90.0
    assert from_file(filed(1, 100.0, duration=None)).started_at is None


@pytest.mark.parametrize("known", [[], [stored(1, NOW - 500)]])
def test_a_death_that_waits_to_be_stored_is_told_and_counted_once(known: list[DeathBody]) -> None:
    body = DeathsBody(name="a", failures_24h={"crash": 1} if known else {})
    old, late = filed(1, NOW - 500), filed(2, NOW - 5, failure="signal")
    tell_from_file(body, [late, old], known, 5, False, now=NOW, waiting=[late])
    assert [(death.incarnation, death.failure) for death in body.deaths] == [(2, "signal"), (1, "crash")]
    assert body.last_end is not None
    assert body.last_end.incarnation == 2
    assert body.failures_24h == {"crash": 1, "signal": 1}
    body = DeathsBody(name="a", failures_24h={"crash": 1, "signal": 1})
    tell_from_file(body, [old], [stored(2, NOW - 5, failure="signal"), *known], 5, False, now=NOW, waiting=[late])
    assert body.failures_24h == {"crash": 1, "signal": 1}, "it was stored meanwhile"


def test_a_death_that_stands_nowhere_yet_is_told() -> None:
    body = DeathsBody(name="a")
    tell_from_file(body, [], [], 5, False, now=NOW, waiting=[filed(2, NOW - 5)])
    assert [death.incarnation for death in body.deaths] == [2]
