"""A supervisor that has seen hundreds of deaths is as small as before."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from integration.runtime.daemons import QUICK, children_of, gone, wait_until

FAST = {**QUICK, "intensity": 100_000, "first_delay": 0.005, "max_delay": 0.005}


class Size:
    """What a process holds."""

    def __init__(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text()
        self.memory = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024
        self.threads = int(re.findall(r"Threads:\s+(\d+)", status)[0])
        self.descriptors = sorted(
            re.sub(r"\d+", "", os.readlink(entry.path)) for entry in os.scandir(f"/proc/{pid}/fd")
        )


def test_hundreds_of_restarts_leave_nothing_behind(daemon):
    fleet = daemon(
        crasher={"habit": "families.crash_soon", "policy": FAST},
        victim={"habit": "well", "policy": FAST},
        witness="well",
    )
    victim = fleet.wait_running("victim", "witness", "crasher")[0]["pid"]
    seen = {"crasher": 0, "victim": 0}

    def go_on(crashes: int, kills: int) -> None:
        """Until so many of each have happened."""
        nonlocal victim

        def enough(entry) -> bool:
            nonlocal victim
            if entry["event"] == "bot backoff":
                seen[entry["name"]] += 1
            if entry["event"] == "bot running" and entry["name"] == "victim":
                victim = entry["pid"]
                if seen["victim"] < kills:
                    os.kill(victim, signal.SIGKILL)
            return seen["crasher"] >= crashes and seen["victim"] >= kills

        os.kill(victim, signal.SIGKILL)
        fleet.wait(enough, 60)
        fleet.seen.clear()

    def at_rest() -> Size:
        fleet.say("stop crasher")
        fleet.wait(
            lambda entry: entry["event"] in ("bot stopped", "bot running") and _states(fleet)["crasher"] == "stopped"
        )
        wait_until(lambda: _states(fleet) == {"crasher": "stopped", "victim": "running", "witness": "running"}, 10)
        wait_until(lambda: len(children_of(fleet.process.pid)) == 3, 10)  # two bots, the forkserver; orphans end in 1 s
        return Size(fleet.process.pid)

    go_on(50, 15)
    before = at_rest()
    fleet.say("start crasher")
    go_on(350, 115)
    after = at_rest()
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads
    assert after.memory - before.memory < 2e6
    assert not any(gone(pid) for pid in children_of(fleet.process.pid)), "a zombie"
    assert sum(path.stat().st_size for path in fleet.folder.iterdir()) < 4 * 3 * 200_000
    assert fleet.end() == 0


def _states(fleet) -> dict[str, str]:
    return {bot["name"]: bot["state"] for bot in fleet.snapshot()["bots"]}
