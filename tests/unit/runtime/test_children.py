"""What the supervisor holds of a child does with its process."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from botctl.runtime import children
from botctl.runtime.children import Child, Kind
from botctl.supervision.model import Exit, Record, State


def child_with(pid: int) -> Child:
    return Child(1, "one", Kind.BOT, Record(1).but(pid=pid, state=State.RUNNING))


def test_a_group_is_ended_while_nobody_else_can_have_its_number(monkeypatch: pytest.MonkeyPatch):
    """The leader has been the only one: once it is waited for, the number is free."""
    process = subprocess.Popen(["/bin/sh", "-c", "exit 3"], start_new_session=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    held: list[bool] = []
    killpg = os.killpg

    def note(group: int, sign: int) -> None:
        assert (group, sign) == (process.pid, signal.SIGKILL)
        try:
            held.append(os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)
        except ChildProcessError:
            held.append(False)
            return
        killpg(group, sign)

    monkeypatch.setattr(os, "killpg", note)
    child = child_with(process.pid)
    assert child.reap() == Exit(code=3)
    assert held == [True]
    assert child.reaped
    process.returncode = 3


def test_whoever_is_left_of_the_group_ends_with_its_leader():
    process = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 600 & echo $!; exit 0"], start_new_session=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    other = os.pidfd_open(int(process.stdout.readline()))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert child_with(process.pid).reap() == Exit(code=0)
    process.returncode = 0
    with os.fdopen(other, closefd=True):
        pass
    assert process.stdout.read() == b"", "nobody holds the pipe any more"
    process.stdout.close()


def test_who_lives_is_not_reaped():
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        assert child_with(process.pid).reap() is None
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_who_was_waited_for_by_others_has_vanished_and_is_killed_no_more(monkeypatch: pytest.MonkeyPatch):
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    child = child_with(process.pid)
    assert child.reap() == Exit()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("its number may be somebody else's"))
    child.kill_group()


def test_kills_are_counted_in_rounds(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(children.time, "monotonic", lambda: now)
    child = Child(1, "one", Kind.BOT, Record(1))
    rounds: list[int] = []
    child.on_kill = lambda: rounds.append(child.kills)
    for _ in range(6):
        child.kill_group()
        now += children.ROUND * 0.6
    assert rounds == [1, 2, 3]
