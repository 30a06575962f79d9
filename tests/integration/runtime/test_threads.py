"""The supervisor's helpers have threads of their own; without one of them the daemon can't go on."""

from __future__ import annotations

import pytest

from integration.runtime.daemons import QUICK, gone, wait_until


@pytest.mark.parametrize(("which", "name"), [("launcher", "launcher"), ("logs", "log keeper")])
def test_the_end_of_a_thread_is_noticed_and_the_daemon_ends_as_failed(daemon, which: str, name: str):
    fleet = daemon(one="well", two="well", bad={"habit": "crash", "policy": {**QUICK, "intensity": 10_000}})
    pids = [entry["pid"] for entry in fleet.wait_running("one", "two")]
    fleet.say(f"break {which}")
    broken = fleet.wait(lambda entry: entry["event"] == "broken")
    assert broken["error"] == f"died by an error of its own: {name}"
    assert fleet.process.wait(15) == 1
    wait_until(lambda: all(map(gone, pids)))
