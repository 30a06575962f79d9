"""A bot's whole process tree ends with it, however either ends."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from integration.runtime.daemons import QUICK, children_of, gone, wait_until

KINDS = {"group", "session", "stubborn", "daemon", "fork", "hidden"}


def family_of(fleet, name: str) -> dict[str, int]:
    """Pids of its subprocesses, by kind."""
    wait_until(lambda: (fleet.folder / f"{name}.log").exists() and "all up" in fleet.log(name), 10)
    family = {kind: int(pid) for kind, pid in re.findall(r"family (\w+) (\d+)", fleet.log(name))}
    assert family.keys() == KINDS
    for kind, pid in family.items():
        assert not gone(pid), kind
    return family


def wait_gone(family: dict[str, int], timeout: float = 5.0) -> None:
    try:
        wait_until(lambda: all(map(gone, family.values())), timeout)
    except AssertionError:
        left = [kind for kind, pid in family.items() if not gone(pid)]
        for pid in family.values():
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"still there: {left}") from None


@pytest.mark.parametrize("end", ["stop", "crash", "kill", "forkserver", "daemon", "supervisor"])
def test_what_a_bot_has_started_ends_with_it(daemon, tmp_path: Path, end: str):
    bot = {"habit": "families.family", "policy": QUICK}
    if end == "crash":
        bot["crash"] = str(tmp_path / "crash")
    fleet = daemon(parent=bot, other={"habit": "families.family", "policy": QUICK})
    pid = fleet.wait_running("parent", "other")[0]["pid"]
    family, others = family_of(fleet, "parent"), family_of(fleet, "other")
    match end:
        case "stop":
            fleet.say("stop parent")
        case "crash":
            (tmp_path / "crash").touch()
        case "kill":
            os.kill(pid, signal.SIGKILL)
        case "forkserver":
            forkserver = next(entry["pid"] for entry in fleet.seen if entry["event"] == "forkserver ready")
            os.kill(forkserver, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        case "daemon":
            fleet.end()
        case "supervisor":
            fleet.process.kill()
    wait_gone(family)
    if end in ("daemon", "supervisor"):
        wait_gone(others)
    else:
        assert not any(map(gone, others.values())), "the other's live on"
        fleet.end()
        wait_gone(others)


def test_who_hides_its_marks_ends_with_its_bot_but_not_before(daemon):
    fleet = daemon(parent={"habit": "families.family", "policy": QUICK}, other="well")
    pid = fleet.wait_running("parent", "other")[0]["pid"]
    family = family_of(fleet, "parent")
    # Long enough for whoever looks at it every second to be sure that it has no mark.
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert not gone(family["hidden"])
        threading.Event().wait(0.05)
    os.kill(pid, signal.SIGKILL)
    wait_gone(family)
    bots = {bot["name"]: bot["restarts"] for bot in fleet.snapshot()["bots"]}
    assert bots["other"] == 0


def test_what_hidden_orphans_keep_is_not_kept_open_for_them(daemon):
    """Each incarnation leaves one that holds its log."""
    policy = {**QUICK, "max_delay": 0.02, "intensity": 10_000}
    fleet = daemon(bad={"habit": "families.cuckoo", "policy": policy}, other="well")
    fleet.wait_state("bad", "running", 60, incarnation=20)
    before = fleet.snapshot()["gauges"]["open_files"]
    fleet.wait_state("bad", "running", 60, incarnation=100)
    fleet.say("stop bad")
    fleet.wait(lambda entry: entry["event"] in ("bot stopped", "bot quarantined") and entry["name"] == "bad")
    cuckoos = [int(pid) for pid in re.findall(r"cuckoo (\d+)", fleet.log("bad"))]
    assert len(cuckoos) >= 99
    try:
        wait_until(lambda: fleet.snapshot()["gauges"]["open_files"] <= before, 10)
        wait_until(lambda: all(map(gone, cuckoos)), 10)
    finally:
        for pid in cuckoos:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
    assert next(bot["restarts"] for bot in fleet.snapshot()["bots"] if bot["name"] == "other") == 0
    assert fleet.end() == 0


def test_bots_die_and_return_though_the_forkserver_is_stopped(daemon):
    fleet = daemon(one="well", two="well", three="well")
    up = fleet.wait(lambda entry: entry["event"] == "forkserver ready")
    pids = [entry["pid"] for entry in fleet.wait_running("one", "two", "three")]
    os.kill(up["pid"], signal.SIGSTOP)
    try:
        os.kill(pids[0], signal.SIGKILL)
        assert fleet.wait_death("one")["exit"] == "signal 9"
        os.kill(pids[1], signal.SIGKILL)
        assert fleet.wait_death("two")["exit"] == "signal 9"
        # Nobody who lives is harmed, and commands are obeyed.
        assert max(fleet.ping() for _ in range(20)) < 0.5
        fleet.say("stop three")
        fleet.wait_state("three", "stopped")
    finally:
        os.kill(up["pid"], signal.SIGCONT)
    fleet.wait_running("one", "two")
    assert fleet.end() == 0


def test_a_forkserver_that_is_killed_amidst_starts_costs_no_bot_and_leaves_none_twice(daemon, tmp_path: Path):
    names = [f"bot{number}" for number in range(10)]
    policy = {**QUICK, "intensity": 20}
    fleet = daemon(
        **{name: {"habit": "families.alone", "policy": policy, "lock": str(tmp_path / name)} for name in names}
    )
    up = fleet.wait(lambda entry: entry["event"] == "forkserver ready")
    os.kill(up["pid"], signal.SIGKILL)
    running: set[str] = set()

    def note(entry) -> bool:
        if entry["event"] == "bot running":
            running.add(entry["name"])
        return running == set(names)

    fleet.wait(note)
    bots = fleet.snapshot()["bots"]
    assert all(bot["state"] == "running" for bot in bots)
    wait_until(lambda: all((fleet.folder / f"{name}.log").exists() for name in names))
    assert not any("two at once" in fleet.log(name) for name in names)
    living = {pid for pid in children_of(fleet.process.pid) if not gone(pid)}
    assert {bot["pid"] for bot in bots} <= living
    assert len(living) == len(names) + 1, "the bots and the new forkserver"
    assert fleet.end() == 0
