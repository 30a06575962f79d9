"""A bot can't outlive its end, nor can what it has started, whatever either does; and nobody else ends with them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from integration.runtime.daemons import HERE, QUICK, Daemon, gone, wait_until

POLICY = {**QUICK, "max_delay": 0.05, "intensity": 10_000}
WELL = {"habit": "attackers.metronome", "policy": POLICY}


def told(fleet: Daemon, name: str, word: str) -> list[int]:
    """Pids that a bot has told of in its log."""
    return [int(pid) for pid in re.findall(rf"^{word} (\d+)$", fleet.log(name), re.MULTILINE)]


def end_all(pids: list[int]) -> None:
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


# --- ptrace --------------------------------------------------------------------------------------------------------

WALL = 0x40000000
"""Wait for whoever it is, as a tracer does."""


@pytest.mark.parametrize("habit", ["traced", "traced_thread", "traced_exit"])
def test_a_bot_that_is_traced_by_its_own_subprocess_ends_and_returns(daemon, habit: str):
    fleet = daemon(well=WELL, bad={"habit": f"escapes.{habit}", "policy": POLICY})
    try:
        fleet.wait_running("well")
        before = fleet.measure()["process_cpu"]
        began = time.monotonic()
        death = fleet.wait_death("bad")
        fleet.wait_state("bad", "running", incarnation=3)
        used = fleet.measure()["process_cpu"] - before
        assert used < 0.3 * (time.monotonic() - began), "it was waited for, not asked for again and again"
        if habit == "traced":
            assert death["exit"] == "exit 3"
        assert "traced it and held up its end" in death["cause"]
        tracers = told(fleet, "bad", "tracer")
        wait_until(lambda: gone(tracers[0]))
        assert [bot["restarts"] for bot in fleet.snapshot()["bots"] if bot["name"] == "well"] == [0]
        assert fleet.end() == 0
        wait_until(lambda: all(map(gone, told(fleet, "bad", "tracer"))))
    finally:
        end_all(told(fleet, "bad", "tracer"))


def seized(pid: int, then: str = "sys.stdin.read()") -> subprocess.Popen[str]:
    """A process outside of the daemon that traces this one."""
    code = f"import os, sys, time, escapes; print(escapes.seize({pid}), flush=True); {then}"
    tracer = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tracer.stdout is not None
    if tracer.stdout.readline() != "True\n":
        tracer.kill()
        tracer.wait()
        pytest.skip("not allowed to trace here")
    return tracer


def test_a_strangers_debugger_has_a_moment_to_let_go_and_no_more(daemon):
    fleet = daemon(one="well", two="well")
    pids = [entry["pid"] for entry in fleet.wait_running("one", "two")]
    until_it_ends = f"os.waitid(os.P_PID, {pids[0]}, os.WEXITED | os.WNOWAIT | {WALL})"
    lets_go = seized(pids[0], f"{until_it_ends}; time.sleep(0.3); os.waitpid({pids[0]}, {WALL}); time.sleep(600)")
    holds = seized(pids[1])
    try:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert fleet.wait_death("one")["cause"] == "killed by SIGKILL"
        assert "held up its end" in fleet.wait_death("two")["cause"]
        fleet.wait_state("two", "running", incarnation=2)
        assert holds.wait(5) == -signal.SIGKILL
        assert lets_go.poll() is None
        assert fleet.end() == 0
    finally:
        for tracer in (lets_go, holds):
            tracer.kill()
            tracer.wait()


def test_a_daemon_ends_though_a_process_of_it_can_not(daemon):
    fleet = daemon(
        well="well", stuck={"habit": "escapes.waits", "policy": {**POLICY, "stop_timeout": 0.1, "kill_timeout": 0.3}}
    )
    pid = fleet.wait_running("well", "stuck")[1]["pid"]
    fleet.say("break tracers")
    tracer = seized(pid)
    try:
        assert fleet.end() == 0
        fleet._reader.join(5)
        left = [entry for entry in rest(fleet) if entry["event"].startswith("left behind")]
        assert [(entry["name"], entry["pid"], entry["level"]) for entry in left] == [("stuck", pid, "error")]
    finally:
        tracer.kill()
        tracer.wait()


def rest(fleet: Daemon) -> list[dict[str, Any]]:
    """What a daemon that has ended had still said."""
    entries = []
    while (entry := fleet._entries.get(timeout=5)) is not None:
        entries.append(entry)
    return entries


# --- whose a process is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "spoil"),
    [("1/1", False), ("1/1", True), ("9" * 5000 + "/1", False), ("", False)],
    ids=["somebody else's", "somebody else's, spoilt", "a very long number", "nothing"],
)
def test_what_a_bot_leaves_ends_with_it_whatever_it_says(daemon, says: str, spoil: bool):
    """Somebody else's that lives, for one."""
    bad = {"habit": "escapes.forger", "policy": POLICY | {"intensity": 1}, "says": says, "spoil": spoil}
    fleet = daemon(well=WELL, bad=bad)
    try:
        fleet.wait_state("bad", "quarantined")
        left = told(fleet, "bad", "left")
        assert len(left) == 2
        wait_until(lambda: all(map(gone, left)))
        assert [bot["restarts"] for bot in fleet.snapshot()["bots"] if bot["name"] == "well"] == [0]
        assert fleet.end() == 0
    finally:
        end_all(told(fleet, "bad", "left"))


def test_what_a_living_bot_has_left_lives_whatever_it_says(daemon):
    """That it belongs to an incarnation that is over, or to nobody."""
    habit = {"habit": "escapes.forger", "policy": POLICY, "stays": True}
    fleet = daemon(one={**habit, "says": "1/77"}, two={**habit, "says": ""}, short="crash")
    try:
        fleet.wait_running("one", "two")
        fleet.wait_state("short", "quarantined")
        left = told(fleet, "one", "left") + told(fleet, "two", "left")
        assert len(left) == 2
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert not any(map(gone, left))
            threading.Event().wait(0.05)
        assert fleet.end() == 0
        wait_until(lambda: all(map(gone, left)))
    finally:
        end_all(told(fleet, "one", "left") + told(fleet, "two", "left"))


# --- strangers -----------------------------------------------------------------------------------------------------

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")

JOB = """
import os
if os.getpid() == {wanted}:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.closerange(0, 3)
        import time
        time.sleep(60)
"""


def job_with_session(number: int) -> int | None:
    """A job left behind by a session leader that had this number and has ended; None when others were quicker."""
    LAST_PID.write_text(str(number - 1))
    leader = subprocess.Popen(
        [sys.executable, "-c", JOB.format(wanted=number)], stdout=subprocess.PIPE, text=True, close_fds=False
    )
    out, _ = leader.communicate(timeout=10)
    return int(out) if out else None


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="the kernel lets us choose no process number")
def test_a_session_that_has_the_number_of_a_dead_bots_outlives_a_killed_supervisor(daemon):
    job = None
    for _ in range(10):
        fleet = daemon(well="well", dead="well")
        pid = fleet.wait_running("well", "dead")[1]["pid"]
        fleet.say("stop dead")
        fleet.wait_state("dead", "stopped")
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
        job = job_with_session(pid)
        if job is not None:
            break
    else:
        pytest.skip("others took the number")
    try:
        forkserver = next(entry["pid"] for entry in fleet.seen if entry["event"] == "forkserver ready")
        fleet.process.kill()
        wait_until(lambda: gone(forkserver))
        assert not gone(job)
    finally:
        end_all([job])
