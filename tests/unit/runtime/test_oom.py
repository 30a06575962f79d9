"""A KILL that nobody of us sent: the kernel's for want of memory, or somebody's."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from botctl.runtime import cgroups
from botctl.runtime.children import Child, Kind
from botctl.runtime.logs import LogKeeper
from botctl.runtime.supervisor import ProcessSupervisor
from botctl.supervision.model import Failure, Record, State

KEY = 7


class Groups:
    """As `cgroups.Cgroups` would answer."""

    def __init__(self, controllers: set[str], kills: int) -> None:
        self.controllers = frozenset(controllers)
        self.kills = kills

    def oom_kills(self, path: str) -> int:
        assert path == "/group"
        return self.kills

    def kill(self, path: str) -> bool:
        return True

    def remove(self, path: str) -> bool:
        return True


class Owner:
    def log(self, level: str, event: str, **fields: object) -> None:
        pass


class Launcher:
    run = "0123456789abcdef"

    def __init__(self, report: object) -> None:
        pass


def end_by_kill(tmp_path: Path, groups: Groups | None, cgroup: str) -> Record:
    """A running child of a supervisor that doesn't run is killed; what becomes of it."""
    logs = LogKeeper(tmp_path, redact=lambda _, line: line)
    supervisor = ProcessSupervisor(Owner(), Launcher, logs, groups=groups)  # type: ignore[arg-type]
    child = Child(KEY, "one", Kind.BOT, Record(KEY))
    supervisor.add(child)
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    running = child.record.but(state=State.RUNNING, wanted=True, ready=True, pid=process.pid, started_at=0.0)
    child.record = supervisor.machine.records[KEY] = running
    child.cgroup = cgroup
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    supervisor._exits.ended(child)
    process.returncode = -9
    return child.record


@pytest.mark.parametrize(("kills", "failure"), [(1, Failure.OOM), (0, Failure.SIGNAL)])
def test_the_control_group_tells_whether_the_kernel_did_it(tmp_path: Path, kills: int, failure: Failure):
    record = end_by_kill(tmp_path, Groups({"memory"}, kills), "/group")
    assert (record.state, record.last_failure) == (State.BACKOFF, failure)


@pytest.mark.parametrize(("kills", "failure"), [(1, Failure.OOM), (0, Failure.SIGNAL)])
@pytest.mark.parametrize("groups", [None, Groups(set(), 99)])
def test_without_one_the_whole_machines_count_is_the_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: Groups | None, kills: int, failure: Failure
):
    counts = iter((10, 10 + kills))
    monkeypatch.setattr(cgroups, "machine_oom_kills", lambda: next(counts))
    assert end_by_kill(tmp_path, groups, "/group" if groups else "").last_failure is failure
