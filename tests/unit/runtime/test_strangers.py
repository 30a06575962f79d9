"""Whose an adopted process is: by its lineage, by a mark that may be true, or by nothing but its niceness."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botctl.runtime import lineage, strangers
from botctl.runtime.spawn import NICENESS

Start = Callable[..., subprocess.Popen[bytes]]

RUN = "0123456789abcdef0123456789abcdef"
NOBODY = strangers.Living(starts=set(), bots={}, others=set())


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process of ours with so much added to its niceness and only a mark, if any, in its environment.

    `limits` are hard limits that it has, by number.
    """
    monkeypatch.setattr(strangers, "LOOK_AGAIN_AFTER", 0.0)
    made: list[subprocess.Popen[bytes]] = []

    def one(
        niceness: int, mark: str = "", start: int = 0, limits: dict[int, int] | None = None
    ) -> subprocess.Popen[bytes]:
        def before() -> None:
            if start:
                lineage.write(RUN, start)
            for which, limit in (limits or {}).items():
                resource.setrlimit(which, (limit, limit))

        environment = {"PATH": os.environ["PATH"]} | ({strangers.INCARNATION: mark} if mark else {})
        # Not before `nice` has become `sleep` is it what it is to be: first in name, a moment later in its environment.
        command = ["nice", "-n", str(niceness), "sleep", "600"]
        made.append(subprocess.Popen(command, env=environment, preexec_fn=before))
        deadline = time.monotonic() + 10
        place = Path(f"/proc/{made[-1].pid}")
        while "sleep" not in (place / "comm").read_text() or b"PATH=" not in (place / "environ").read_bytes():
            assert time.monotonic() < deadline
        return made[-1]

    yield one
    for process in made:
        process.kill()
        process.wait()


def look(
    orphans: strangers.Orphans,
    process: subprocess.Popen[bytes],
    times: int = strangers.LOOKS,
    living: strangers.Living = NOBODY,
) -> bool:
    """Whether the process is ended by that many looks."""
    known = set(strangers.children()) - {process.pid}
    for _ in range(times):
        assert process.poll() is None
        orphans.end(known, lambda: living)
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
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    left = start(NICENESS)
    orphans.over(began)
    assert not look(orphans, left, strangers.LOOKS - 1)
    assert orphans.undecided
    assert look(orphans, left, 1)
    assert not orphans.undecided


def test_what_was_started_while_no_bot_lived_that_has_ended_is_left_alone(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
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
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    servers = start(0)
    orphans.over(began)
    assert not look(orphans, servers)


def test_as_the_first_process_of_a_container_we_end_no_strangers(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=False)
    began = strangers.now()
    somebodys = start(NICENESS)
    orphans.over(began)
    assert not look(orphans, somebodys)


def test_where_we_are_as_nice_as_can_be_nobody_is_taken_for_a_bots(start: Start, monkeypatch: pytest.MonkeyPatch):
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    somebodys = start(strangers.NICEST)
    orphans.over(began)
    monkeypatch.setattr(os, "getpriority", lambda *_: strangers.NICEST)
    assert not look(orphans, somebodys)


# --- by its lineage ------------------------------------------------------------------------------------------------


def test_a_lineage_goes_before_what_a_process_says_of_itself(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=False)
    of_one_that_lives = start(NICENESS, "7/1", start=1)
    of_a_dead_one = start(NICENESS, "8/1", start=2)
    living = strangers.Living(starts={1, 3}, bots={(8, 1): 0.0}, others=set())
    assert not look(orphans, of_one_that_lives, living=living)
    assert look(orphans, of_a_dead_one, 1, living)


def test_the_lineage_of_another_daemon_is_none(start: Start):
    orphans = strangers.Orphans("f" + RUN[1:], ends_unmarked=False)
    assert not look(orphans, start(NICENESS, "", start=1))


def test_those_of_one_start_are_ended_before_it_is_over(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=False)
    first, second = start(NICENESS, start=1), start(NICENESS, start=2)
    orphans.end_of(2, set(strangers.children()) - {first.pid, second.pid})
    assert second.wait(5) == -9
    assert first.poll() is None


# --- by its mark, where there is no lineage ------------------------------------------------------------------------


def test_a_mark_counts_for_a_living_bot_and_for_a_child_that_is_no_bot(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    bots, controls, dead = start(NICENESS, "7/1"), start(0, "-1/1"), start(NICENESS, "7/2")
    living = strangers.Living(starts=set(), bots={(7, 1): began}, others={(-1, 1)})
    orphans.over(began)
    assert not look(orphans, bots, living=living)
    assert not look(orphans, controls, living=living)
    assert look(orphans, dead, 1, living)


@pytest.mark.parametrize("mark", ["-1/1", "7/2"])
def test_a_mark_that_a_bots_process_can_not_have_by_descent_counts_for_nothing(start: Start, mark: str):
    """That of a child that is no bot, or of an incarnation that was asked for later than the process began."""
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    forger = start(NICENESS, mark)
    a_tick_later()
    living = strangers.Living(starts=set(), bots={(7, 2): a_tick_later()}, others={(-1, 1)})
    orphans.over(began)
    assert look(orphans, forger, living=living)


def test_who_has_spoilt_his_lineage_is_not_believed(start: Start):
    orphans = strangers.Orphans(RUN, ends_unmarked=True)
    began = strangers.now()
    forger = start(NICENESS, "7/1", start=5, limits={10: 5})
    orphans.over(began)
    assert look(orphans, forger, living=strangers.Living(starts=set(), bots={(7, 1): began}, others=set()))


def test_no_mark_is_a_number_without_an_end(start: Start):
    assert strangers.mark_of(start(NICENESS, "9" * 5000 + "/1").pid) is None
    assert strangers.mark_of(start(NICENESS, "1/" + "9" * 5000).pid) is None
    assert strangers.mark_of(start(NICENESS, "-9223372036854775808/1").pid) == (-9223372036854775808, 1)
