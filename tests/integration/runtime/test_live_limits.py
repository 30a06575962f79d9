"""Limits that change while a bot runs, and commands that come all at once."""

from __future__ import annotations

import json
import os
import random
import resource
from pathlib import Path

import pytest

from integration.runtime.daemons import QUICK, wait_until

MB = 1_000_000
LIMITS = {"memory": 800 * MB, "open_files": 200, "file_size": 50 * MB}


def desire(fleet, generation: int, **limits: int) -> None:
    policy = {key: value for key, value in QUICK.items() if key != "term_timeout"}
    bot = {"name": "one", "bot_id": 1, "digest": "same", "config": {"habit": "well"}, "policy": policy, **limits}
    fleet.say("desire " + json.dumps({"type": "Desired", "generation": generation, "bots": [bot]}))
    fleet.wait(lambda entry: entry["event"] == "desired" and entry["generation"] == generation)


def limits_of(pid: int) -> dict[str, int]:
    """As the kernel has them."""
    names = {"memory": resource.RLIMIT_DATA, "open_files": resource.RLIMIT_NOFILE, "file_size": resource.RLIMIT_FSIZE}
    return {name: resource.prlimit(pid, which)[1] for name, which in names.items()}


def beyond(inherited: int, limits: dict[str, int]) -> dict[str, int]:
    """As the kernel has limits of a child that has inherited so many bytes."""
    return limits | {"memory": limits["memory"] + inherited}


def may_raise() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> 24 & 1)  # CAP_SYS_RESOURCE


def test_lower_limits_are_the_kernels_at_once_and_without_a_restart(daemon):
    fleet = daemon(one={"habit": "well", "policy": QUICK, "limits": LIMITS})
    pid = fleet.wait_state("one", "running")["pid"]
    inherited = limits_of(pid)["memory"] - LIMITS["memory"]
    assert 0 < inherited < 200 * MB
    assert limits_of(pid) == beyond(inherited, LIMITS)
    desire(fleet, 1, **LIMITS)
    lower = {"memory": 700 * MB, "open_files": 150, "file_size": 40 * MB}
    desire(fleet, 2, **lower)
    assert limits_of(pid) == beyond(inherited, lower)
    (bot,) = fleet.snapshot()["bots"]
    assert (bot["pid"], bot["incarnation"], bot["restarts"]) == (pid, 1, 0)


@pytest.mark.skipif(may_raise(), reason="we may raise limits, so that the kernel refuses nothing")
def test_a_limit_that_the_kernel_does_not_raise_comes_with_a_restart(daemon):
    fleet = daemon(one={"habit": "well", "policy": QUICK, "limits": LIMITS})
    fleet.wait_state("one", "running")
    desire(fleet, 1, **LIMITS)
    higher = {"memory": 900 * MB, "open_files": 250, "file_size": 60 * MB}
    desire(fleet, 2, **higher)
    again = fleet.wait_state("one", "running", incarnation=2)
    found = limits_of(again["pid"])
    assert found == beyond(found["memory"] - higher["memory"], higher)
    assert found["memory"] > higher["memory"]
    assert not any(entry["event"] == "bot failed" for entry in fleet.seen)
    assert fleet.end() == 0


def test_a_storm_of_commands_leaves_the_last_wish_and_never_two_processes(daemon, tmp_path: Path):
    names = ("one", "two", "three")
    fleet = daemon(
        **{name: {"habit": "families.alone", "policy": QUICK, "lock": str(tmp_path / f"lock {name}")} for name in names}
    )
    fleet.wait_running(*names)
    seed = random.randrange(1 << 30)
    for name in names:
        # Each from 8 threads of the daemon at once.
        fleet.say(f"storm {name} {seed}")
    for _ in names:
        fleet.wait(lambda entry: entry["event"] == "storm over")
    fleet.say("start one")
    fleet.say("stop two")
    fleet.say("restart three")

    def settled() -> bool:
        states = {bot["name"]: bot["state"] for bot in fleet.snapshot()["bots"]}
        return states == {"one": "running", "two": "stopped", "three": "running"}

    wait_until(settled, 15)
    bots = {bot["name"]: bot for bot in fleet.snapshot()["bots"]}
    assert bots["one"]["last_failure"] is None, (seed, bots["one"])
    for name in names:
        assert "two at once" not in fleet.log(name), seed
    assert bots["two"]["pid"] is None
    assert fleet.end() == 0
    for name in ("one", "three"):
        pid = bots[name]["pid"]
        assert not os.path.exists(f"/proc/{pid}")
    started = [entry for entry in fleet.seen if entry["event"] == "bot starting"]
    assert len(started) > len(names), f"nothing was restarted, seed {seed}"
