"""What is recorded of transitions. There is no process behind them, and nobody who stores the records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from botctl.runtime import record_keeper
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.record_keeper import RecordKeeper
from botctl.supervision import events
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import Exit, Failure, Health, Policy, Record
from botctl.supervision.reconcile import Wanted


class Books:
    """The records of one bot; `feed` plays an event and has what came of it recorded."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.machine = FleetMachine()
        self.child = Child(1, "a", Kind.BOT, Record(1, Policy()))
        self.machine.add(1, Policy())
        self.written: list[tuple[str, str]] = []
        logs = SimpleNamespace(write=lambda *line, keep=False: self.written.append(line), tail=lambda *_: [])
        self.keeper = RecordKeeper(Children({1: self.child}), cast("Any", logs), lambda *_: None)
        self._perform(self.machine.desire({1: Wanted("a")}, 0.0))

    def feed(self, event: events.Event) -> None:
        self._perform(self.machine.feed(1, event, self.clock[0]))

    def _perform(self, changes) -> None:
        for change in changes:
            self.child.record = change.after
            if change.after.state is not change.before.state:
                self.keeper.transition(self.child, change)

    def told(self) -> list[tuple[str, str]]:
        found = []
        while (record := self.keeper._outbox.next()) is not None:
            found.append((record.from_state, record.to_state))
        return found

    def last(self):
        return self.keeper._outbox._records[-1][0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(record_keeper.time, "time", lambda: seconds[0])
    monkeypatch.setattr(record_keeper.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def books(clock: list[float]) -> Books:
    made = Books(clock)
    made.feed(events.Spawned(77))
    clock[0] += 5.0
    made.feed(events.BecameReady())
    made.told()
    return made


def test_a_bot_that_goes_to_and_fro_is_told_of_once_a_second_and_where_it_has_got_to_in_the_end(books: Books):
    for _ in range(50):
        books.clock[0] += 0.01
        books.feed(events.Beat(Health.DEGRADED, "redis"))
        books.feed(events.Beat(Health.OK))
    books.feed(events.Beat(Health.DEGRADED, "redis"))
    books.keeper.settle()
    assert books.told() == []
    books.clock[0] += 1.0
    books.keeper.settle()
    assert books.told() == [("running", "degraded")]
    assert books.last().reason == "redis"
    books.clock[0] += 1.0
    books.keeper.settle()
    assert books.told() == []


def test_nothing_is_told_of_a_bot_that_is_back_where_it_was(books: Books):
    books.feed(events.Beat(Health.DEGRADED, "redis"))
    books.feed(events.Beat(Health.OK))
    books.clock[0] += 1.5
    books.keeper.settle()
    assert books.told() == []


def test_a_bot_that_is_not_ready_may_not_flood_the_history_either(books: Books):
    books.feed(events.Restart())
    books.feed(events.Exited(Exit(code=0)))
    books.told()
    for _ in range(100):
        books.clock[0] += 0.01
        books.feed(events.Beat(Health.PAUSED, "database"))
        books.feed(events.Beat(Health.OK))
    assert len(books.told()) <= 2


def test_an_end_is_always_told_with_its_cause(books: Books):
    books.feed(events.Beat(Health.DEGRADED, "redis"))
    books.keeper.ending(books.child, Exit(code=3), "")
    books.feed(events.Exited(Exit(code=3)))
    record = books.last()
    assert (record.failure, record.exit, record.cause) == ("crash", "exit 3", "ended with exit code 3")
    assert [name for name, _ in books.written] == ["deaths"]


@pytest.mark.parametrize(
    ("words", "ending", "told"),
    [
        (None, Exit(signal=11), "a traceback"),
        (None, Exit(signal=9), ""),
        (Failure.BAD_TOKEN, Exit(code=1), ""),
    ],
)
def test_stacks_are_kept_where_they_tell_something_and_not_where_a_bot_may_write_what_it_likes(
    books: Books, words: Failure | None, ending: Exit, told: str
):
    if words is not None:
        books.feed(events.LastWords(words, "why"))
    books.keeper.ending(books.child, ending, "a traceback")
    books.feed(events.Exited(ending))
    assert books.last().stacks == told
    assert ("a" in [name for name, _ in books.written]) is bool(told)


def test_an_end_says_that_the_breaker_holds_it_back_and_that_it_does_not_count(clock: list[float]) -> None:
    """Three of three fail: the first two are told before anybody knows that it is the environment."""
    machine = FleetMachine()
    children = Children({key: Child(key, f"bot-{key}", Kind.BOT, machine.add(key, Policy())) for key in (1, 2, 3)})
    logs = SimpleNamespace(write=lambda *line, keep=False: None, tail=lambda *_: [])
    keeper = RecordKeeper(children, cast("Any", logs), lambda *_: None, machine.breaker)

    def perform(changes: list[Change]) -> None:
        for change in changes:
            children[change.key].record = machine.records[change.key]
            if change.after.state is not change.before.state:
                keeper.transition(children[change.key], change)

    perform(machine.desire({key: Wanted("a") for key in children}, clock[0]))
    actions = []
    for key in children:
        perform(machine.feed(key, events.Spawned(70 + key), clock[0]))
        perform(machine.feed(key, events.BecameReady(), clock[0]))
    for key in children:
        perform(machine.feed(key, events.Exited(Exit(code=1)), clock[0]))
        actions.append(keeper._outbox._records[-1][0].action)
    assert actions[0].startswith("next start")
    assert actions[2] == (
        "held back by the fleet breaker: 3 of 3 bots failed within 10 s; not counted: the environment was to blame"
    )
