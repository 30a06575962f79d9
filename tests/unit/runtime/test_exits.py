"""What a KILL ends, and when."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from botctl.runtime.children import Child, Kind
from botctl.runtime.logs import LogKeeper
from botctl.runtime.supervisor import ProcessSupervisor
from botctl.supervision import events
from botctl.supervision.model import Record, State
from unit.runtime.test_oom import KEY, Groups, Launcher, Owner


class Noting(Groups):
    def __init__(self) -> None:
        super().__init__({"memory"}, 0)
        self.killed: list[str] = []

    def kill(self, path: str) -> bool:
        self.killed.append(path)
        return True


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield made
    made.kill()
    made.wait()


def test_a_control_group_is_ended_with_the_kill_and_not_when_its_bot_is_gone(
    tmp_path: Path, process: subprocess.Popen[bytes]
):
    """Whoever holds up the bot's end may be in it."""
    groups = Noting()
    logs = LogKeeper(tmp_path, redact=lambda _, line: line)
    supervisor = ProcessSupervisor(Owner(), Launcher, logs, groups=groups)  # type: ignore[arg-type]
    child = Child(KEY, "one", Kind.BOT, Record(KEY))
    supervisor.add(child)
    running = child.record.but(state=State.RUNNING, wanted=True, ready=True, pid=process.pid, started_at=0.0)
    child.record = supervisor.machine.records[KEY] = running
    child.cgroup, child.pidfd = "/group", os.pidfd_open(process.pid)
    supervisor._exits.watch(child)
    supervisor._dispatcher.dispatch(child, events.Quarantine("for a reason"))
    assert groups.killed == ["/group"]
    assert child.record.state is State.STOPPING
    assert process.wait(10) == -signal.SIGKILL
    os.close(child.pidfd)
