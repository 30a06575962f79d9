"""Whose an adopted process without a mark is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botctl.runtime import strangers
from botctl.runtime.spawn import NICENESS

Start = Callable[[int], subprocess.Popen[bytes]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process of ours with so much added to its niceness and nothing in its environment."""
    monkeypatch.setattr(strangers, "LOOK_AGAIN_AFTER", 0.0)
    made: list[subprocess.Popen[bytes]] = []

    def one(niceness: int) -> subprocess.Popen[bytes]:
        # Not before `nice` has become `sleep` is it what it is to be.
        made.append(subprocess.Popen(["nice", "-n", str(niceness), "sleep", "600"], env={"PATH": os.environ["PATH"]}))
        deadline = time.monotonic() + 10
        while "sleep" not in Path(f"/proc/{made[-1].pid}/comm").read_text():
            assert time.monotonic() < deadline
        return made[-1]

    yield one
    for process in made:
        process.kill()
        process.wait()


def look(orphans: strangers.Orphans, process: subprocess.Popen[bytes], times: int = strangers.LOOKS) -> bool:
    """Whether the process is ended by that many looks."""
    known = set(strangers.children()) - {process.pid}
    for _ in range(times):
        assert process.poll() is None
        orphans.end(known, lambda *_: False)
    try:
        return process.wait(0.3) == -9
    except subprocess.TimeoutExpired:
        return False


def a_tick_later() -> float:
    """The time, once the kernel's notes of starts can't be those of before: they are rounded."""
    until = strangers.now() + 2 * strangers.TICK
    while strangers.now() < until:
        pass
    return strangers.now()


def test_what_a_dead_bot_has_left_is_ended_once_it_surely_has_no_mark(start: Start):
    orphans = strangers.Orphans(ends_unmarked=True)
    began = strangers.now()
    left = start(NICENESS)
    orphans.over(began)
    assert not look(orphans, left, strangers.LOOKS - 1)
    assert orphans.undecided
    assert look(orphans, left, 1)
    assert not orphans.undecided


def test_what_was_started_while_no_bot_lived_that_has_ended_is_left_alone(start: Start):
    orphans = strangers.Orphans(ends_unmarked=True)
    before = start(NICENESS)
    began = a_tick_later()
    a_tick_later()
    orphans.over(began)
    a_tick_later()
    after = start(NICENESS)
    assert not look(orphans, before)
    assert not look(orphans, after)
    orphans.over(began)
    assert look(orphans, after, 1)


def test_a_servers_own_are_left_alone(start: Start):
    orphans = strangers.Orphans(ends_unmarked=True)
    began = strangers.now()
    servers = start(0)
    orphans.over(began)
    assert not look(orphans, servers)


def test_as_the_first_process_of_a_container_we_end_no_strangers(start: Start):
    orphans = strangers.Orphans(ends_unmarked=False)
    began = strangers.now()
    somebodys = start(NICENESS)
    orphans.over(began)
    assert not look(orphans, somebodys)


def test_where_we_are_as_nice_as_can_be_nobody_is_taken_for_a_bots(start: Start, monkeypatch: pytest.MonkeyPatch):
    orphans = strangers.Orphans(ends_unmarked=True)
    began = strangers.now()
    somebodys = start(strangers.NICEST)
    orphans.over(began)
    monkeypatch.setattr(os, "getpriority", lambda *_: strangers.NICEST)
    assert not look(orphans, somebodys)
