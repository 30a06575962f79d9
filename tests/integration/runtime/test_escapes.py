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

import pytest

from integration.runtime.daemons import QUICK, Daemon, gone, wait_until

POLICY = {**QUICK, "max_delay": 0.05, "intensity": 10_000}
WELL = {"habit": "attackers.metronome", "policy": POLICY}


def told(fleet: Daemon, name: str, word: str) -> list[int]:
    """Pids that a bot has told of in its log."""
    return [int(pid) for pid in re.findall(rf"^{word} (\d+)$", fleet.log(name), re.MULTILINE)]


def end_all(pids: list[int]) -> None:
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


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
