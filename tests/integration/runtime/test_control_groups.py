"""Control groups of this machine's kernel, where we may make some; their files are tried in `test_cgroup_files`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botctl.runtime import cgroup_files
from botctl.runtime.cgroups import Cgroups


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    """As a daemon would have them; afterwards this process is where it was."""
    reasons: list[str] = []
    before = cgroup_files.own_group(*map(cgroup_files.text, (Path("/proc/self/mountinfo"), Path("/proc/self/cgroup"))))
    made = Cgroups.detect(reasons.append)
    if made is None:
        pytest.skip(f"no control groups to be had here: {reasons[-1]}")
    try:
        yield made
    finally:
        made.close()
    after = cgroup_files.own_group(*map(cgroup_files.text, (Path("/proc/self/mountinfo"), Path("/proc/self/cgroup"))))
    assert after == before
    if made.home != before:
        assert not made.home.exists()


def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_daemon_is_in_a_leaf_of_its_own(cgroups: Cgroups):
    leaf = cgroups.home / "supervisor"
    assert os.getpid() in cgroup_files.pids(leaf)
    assert cgroups.controllers <= set((cgroups.home / "cgroup.controllers").read_text().split())


# The forkserver of the module was started before `cgroups`: the child has to enter its group by itself.


def test_a_child_enters_its_group_and_nothing_it_starts_escapes(fork, cgroups: Cgroups):
    path = cgroups.make("bot-1")
    child = fork("starts_a_program_with_a_session", cgroup=path)
    program = int(child.hear())
    assert os.getsid(program) != os.getsid(child.pid)
    assert set(cgroup_files.pids(Path(path))) == {child.pid, program}
    assert cgroups.remove(path) is False
    assert cgroups.kill(path)
    assert os.WTERMSIG(child.wait()) == 9
    until(lambda: gone(program))
    until(lambda: not cgroup_files.populated(Path(path)))
    cgroups.make("bot-2")  # the next use tries again
    assert not Path(path).exists()


def test_without_the_kernels_kill_the_whole_tree_is_ended_as_well(fork, cgroups: Cgroups, monkeypatch):
    path = cgroups.make("bot-1")
    child = fork("starts_a_program_with_a_session", cgroup=path)
    program = int(child.hear())
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self.name != "cgroup.kill" and exists(self))
    assert cgroups.kill(path)
    assert os.WTERMSIG(child.wait()) == 9
    until(lambda: gone(program))
    assert (Path(path) / "cgroup.freeze").read_text().strip() == "0"


def test_the_child_is_told_its_group_from_the_beginning(fork, cgroups: Cgroups):
    path = cgroups.make("bot-1")
    facts = json.loads(fork("tells_its_limits", cgroup=path).hear())
    assert any(line.startswith("0::") and line.endswith("/bot-1") for line in facts["groups"].splitlines())


def test_what_an_earlier_daemon_left_in_a_group_is_ended(cgroups: Cgroups):
    group = cgroups.home / "bot-1"
    group.mkdir()
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (group / "cgroup.procs").write_text(str(program.pid))
        cgroups.make("bot-1")
        assert program.wait(10) == -9
    finally:
        program.kill()
        program.wait()


def test_close_ends_and_removes_everything(cgroups: Cgroups):
    path = cgroups.make("bot-1")
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        Path(path, "cgroup.procs").write_text(str(program.pid))
        cgroups.close()
        assert not Path(path).exists()
        assert program.wait(10) == -9
    finally:
        program.kill()
        program.wait()
