"""Control groups over a folder tree that looks like the kernel's: what is read, what is written, what is left alone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botctl.runtime import cgroup_files
from botctl.runtime.cgroups import Cgroups, machine_oom_kills

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
NO_NAMESPACE = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "folder"),
    [
        (UNIFIED, "0::/system.slice/botctl.service\n", "/sys/fs/cgroup/system.slice/botctl.service"),
        (UNIFIED, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/jobs/7\n0::/jobs/7\n", "/sys/fs/cgroup/unified/jobs/7"),
        (HYBRID, "4:memory:/jobs/7\n", None),
        (HYBRID.rpartition("41")[0], "0::/\n", None),
        (NO_NAMESPACE, "0::/docker/abc\n", "/sys/fs/cgroup"),
        (NO_NAMESPACE, "0::/docker/abc/leaf\n", "/sys/fs/cgroup/leaf"),
        (NO_NAMESPACE, "0::/docker/abcdef\n", None),
        (NO_NAMESPACE, "0::/\n", None),
        (UNIFIED, "0::/../../init.scope\n", None),
        (UNIFIED, "0::/gone.service (deleted)\n", None),
        (UNIFIED.replace("/sys/fs/cgroup", "/with\\040space"), "0::/a b\n", "/with space/a b"),
        ("", "", None),
        ("nonsense\n - \n", "0::/\n", None),
    ],
)
def test_our_own_group_is_found_in_any_layout(mountinfo, membership, folder):
    assert cgroup_files.own_group(mountinfo, membership) == (Path(folder) if folder else None)


class Machine:
    """A root folder with /proc, a version 2 hierarchy and, in it, our own group."""

    def __init__(self, root: Path, own: str = "/system.slice/botctl.service") -> None:
        self.root = root
        self.notes: list[str] = []
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(UNIFIED)
        (root / "proc/self/cgroup").write_text(f"0::{own}\n")
        self.own = root / "sys/fs/cgroup" / own.lstrip("/")
        self.fill(self.own, procs=f"{os.getpid()}\n")
        self.fill(self.own / "supervisor")

    def fill(self, group: Path, procs: str = "", controllers: str = "cpuset cpu io memory pids") -> None:
        group.mkdir(parents=True, exist_ok=True)
        contents = {
            "cgroup.type": "domain\n",
            "cgroup.procs": procs,
            "cgroup.controllers": controllers,
            "cgroup.subtree_control": "",
            "cgroup.events": "populated 0\nfrozen 0\n",
            "cgroup.kill": "",
            "memory.max": "",
            "memory.swap.max": "",
            "memory.oom.group": "",
            "memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n",
            "cgroup.max.descendants": "",
            "cgroup.max.depth": "",
            "cpu.max": "",
            "pids.max": "",
        }
        for name, text in contents.items():
            (group / name).write_text(text)

    def under_systemd(self) -> None:
        (self.root / "run/systemd/system").mkdir(parents=True)

    def detect(self) -> Cgroups | None:
        return Cgroups.detect(self.notes.append, root=self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    subprocess.run(["rm", "-rf", made.own], check=True)  # too deep for the removal of old folders by pytest


def written(path: str | Path, name: str) -> str:
    """What was written last; these files keep the end of a longer text that was there before."""
    return (Path(path) / name).read_text().strip()


def test_the_daemon_moves_into_a_leaf_and_limits_become_possible(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    assert cgroups.controllers == {"memory", "cpu", "pids"}
    assert cgroups.home == machine.own
    assert written(machine.own / "supervisor", "cgroup.procs") == str(os.getpid())
    assert written(machine.own, "cgroup.subtree_control").startswith("+pids")
    assert machine.notes == []


def test_only_what_is_offered_is_enabled_and_only_that_is_written(machine: Machine):
    (machine.own / "cgroup.controllers").write_text("hugetlb pids\n")
    cgroups = machine.detect()
    assert cgroups is not None
    assert cgroups.controllers == {"pids"}
    machine.fill(machine.own / "bot-1")
    path = cgroups.make("bot-1", memory_max=1000, cpu=1.0, processes=9)
    assert written(path, "pids.max") == "9"
    assert written(path, "memory.max") == ""
    assert written(path, "cpu.max") == ""
    assert cgroups.adjust(path, memory_max=1000) is False
    assert cgroups.adjust(path, memory_max=0) is True


def test_a_group_gets_its_limits(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    machine.fill(machine.own / "bot-1")
    path = cgroups.make("bot-1", memory_max=268435456, cpu=0.5, processes=64)
    assert path == str(machine.own / "bot-1")
    assert written(path, "memory.max") == "268435456"
    assert written(path, "memory.swap.max") == "0"
    assert written(path, "memory.oom.group") == "1"
    assert written(path, "cpu.max") == "50000 100000"
    assert written(path, "pids.max") == "64"
    assert written(path, "cgroup.max.descendants") == "16"
    assert written(path, "cgroup.max.depth") == "4"
    assert cgroups.adjust(path, cpu=0.0, memory_max=536870912)
    assert written(path, "memory.max") == "536870912"
    assert written(path, "cpu.max").startswith("max 100000")
    assert cgroups.adjust(path, cpu=0.0001)
    assert written(path, "cpu.max").startswith("1000 100000")
    assert cgroups.oom_kills(path) == 2
    assert cgroups.kill(path)
    assert written(path, "cgroup.kill") == "1"
    assert machine.notes == []


def test_what_an_earlier_daemon_left_in_a_group_is_ended(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    machine.fill(machine.own / "bot-1")
    (machine.own / "bot-1/cgroup.events").write_text("populated 1\n")
    path = cgroups.make("bot-1")
    assert written(path, "cgroup.kill") == "1"


def test_without_the_kernels_kill_each_process_is_ended(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    machine.fill(machine.own / "bot-1")
    machine.fill(machine.own / "bot-1/below")
    (machine.own / "bot-1/cgroup.kill").unlink()
    path = cgroups.make("bot-1")
    programs = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    try:
        (machine.own / "bot-1/cgroup.procs").write_text(f"{programs[0].pid}\n{os.getpid()}\n0\n")
        (machine.own / "bot-1/below/cgroup.procs").write_text(f"{programs[1].pid}\n")
        assert cgroups.kill(path)
        assert [program.wait(10) for program in programs] == [-signal.SIGKILL] * 2
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_nothing_raises_when_files_are_missing(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    path = cgroups.make("bot-1", memory_max=1)
    assert path
    assert "memory.max" in machine.notes[0]
    assert cgroups.adjust(path, memory_max=1) is False
    assert cgroups.oom_kills(path) == 0
    assert cgroups.remove(path) is True
    assert cgroups.remove(path) is False
    assert not Path(path).exists()


def nested(group: Path, depth: int) -> None:
    """As many folders in one another; `Path` and one call could not make them all."""
    folder = str(group)
    for _ in range(depth):
        folder += "/a"
        os.mkdir(folder)


@pytest.mark.parametrize(("wide", "deep"), [(1500, 0), (0, 1100), (300, 300)])
def test_groups_that_a_bot_has_made_without_end_go_a_few_at_a_time(machine: Machine, wide: int, deep: int):
    cgroups = machine.detect()
    assert cgroups is not None
    path = cgroups.make("bot-1")
    for number in range(wide):
        Path(path, f"w{number}").mkdir()
    nested(Path(path), deep)
    deadline = time.monotonic() + 60
    turns = [processor_time(lambda: cgroups.remove(path))]
    while exists(path):
        turns.append(processor_time(lambda: cgroups.make("other")))
        assert time.monotonic() < deadline
    assert len(turns) > 3
    assert max(turns) < 0.03
    assert cgroups.make("bot-1") == path


def processor_time(call: Callable[[], object]) -> float:
    gc.disable()  # of all that the tests before have left
    try:
        began = time.thread_time()
        call()
        return time.thread_time() - began
    finally:
        gc.enable()


def exists(path: str) -> bool:
    return Path(path).exists()


def test_a_group_that_holds_processes_is_tried_again_after_the_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("botctl.runtime.cgroups.SWEEP_TIMEOUT", 60.0)  # what is done, not how fast
    cgroups = machine.detect()
    assert cgroups is not None
    busy, free = cgroups.make("busy"), cgroups.make("free")
    for name in "abc":
        Path(busy, name).mkdir()
    (Path(busy, "b") / "cgroup.procs").write_text("1\n")  # a folder that can't be removed, as in the kernel's
    assert cgroups.remove(busy) is False
    assert {one.name for one in Path(busy).iterdir()} == {"b"}
    assert cgroups.remove(free) is True
    (Path(busy, "b") / "cgroup.procs").unlink()
    cgroups.make("another")
    assert not exists(busy)


def test_nobody_is_looked_for_beyond_a_bound(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    path = cgroups.make("bot-1")
    for number in range(300):
        Path(path, f"w{number}").mkdir()
    nested(Path(path), 1100)
    assert len(list(cgroup_files.tree(Path(path)))) == cgroup_files.AT_ONCE
    assert cgroups.kill(path)


def test_nothing_that_goes_wrong_reaches_the_loop(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    cgroups = machine.detect()
    assert cgroups is not None
    path = cgroups.make("bot-1")

    def fail(*_: object) -> object:
        raise RecursionError("too deep")

    for name in ("make_folder", "remove_folder", "put", "text", "field", "tree"):
        monkeypatch.setattr(cgroup_files, name, fail)
    assert cgroups.make("bot-2") == ""
    assert cgroups.adjust(path, processes=1) is False
    assert cgroups.kill(path) is False
    assert cgroups.oom_kills(path) == 0
    assert cgroups.remove(path) is False
    cgroups.close()
    assert "RecursionError: too deep" in machine.notes[-1]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "supervisor", "x" * 200, "new\nline"])
def test_names_that_lead_elsewhere_are_refused(machine: Machine, name: str):
    cgroups = machine.detect()
    assert cgroups is not None
    assert cgroups.make(name) == ""
    assert "no name" in machine.notes[0]


def test_only_groups_that_we_made_are_ended_or_removed(machine: Machine):
    cgroups = machine.detect()
    assert cgroups is not None
    machine.fill(machine.own / "others")
    assert cgroups.kill(str(machine.own / "others")) is False
    assert cgroups.kill(str(machine.own / "supervisor")) is False
    assert cgroups.remove(str(machine.own / "supervisor")) is False
    assert written(machine.own / "others", "cgroup.kill") == ""


@pytest.mark.parametrize("foreign", [1, 0])
def test_a_group_that_holds_others_is_left_alone(machine: Machine, foreign: int):
    (machine.own / "cgroup.procs").write_text(f"{foreign}\n{os.getpid()}\n")
    assert machine.detect() is None
    assert "holds other processes" in machine.notes[0]
    assert written(machine.own, "cgroup.subtree_control") == ""
    assert written(machine.own / "supervisor", "cgroup.procs") == ""


def test_under_systemd_only_a_delegated_group_is_used(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.under_systemd()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert machine.detect() is None
    assert "Delegate=yes" in machine.notes[0]
    marks = {"trusted.delegate": b"1"}

    def getxattr(path: object, name: str) -> bytes:
        if name not in marks:
            raise OSError(61, "No data available")
        return marks[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert machine.detect() is not None


def test_a_group_of_threads_is_left_alone(machine: Machine):
    (machine.own / "cgroup.type").write_text("domain threaded\n")
    assert machine.detect() is None
    assert "threads" in machine.notes[0]


def test_a_daemon_that_is_in_the_leaf_already_uses_its_parent(machine: Machine):
    (machine.root / "proc/self/cgroup").write_text("0::/system.slice/botctl.service/supervisor\n")
    (machine.own / "cgroup.procs").write_text("")
    (machine.own / "supervisor/cgroup.procs").write_text(f"{os.getpid()}\n")
    cgroups = machine.detect()
    assert cgroups is not None
    assert cgroups.home == machine.own


def test_the_root_group_of_a_systemd_machine_is_left_alone(tmp_path: Path):
    machine = Machine(tmp_path, own="/")
    machine.under_systemd()
    (machine.own / "cgroup.type").unlink()
    assert machine.detect() is None
    assert "root group" in machine.notes[0]
    assert not list(machine.own.glob("botctl-*"))


def test_without_version_2_there_is_nothing(tmp_path: Path):
    machine = Machine(tmp_path)
    (machine.root / "proc/self/mountinfo").write_text("")
    assert machine.detect() is None
    (machine.root / "proc/self/mountinfo").unlink()
    assert machine.detect() is None


def test_the_machines_oom_kills_are_counted(tmp_path: Path):
    assert machine_oom_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("pgfault 5\noom_kill 12\noom_kill_other 99\n")
    assert machine_oom_kills(tmp_path) == 12
