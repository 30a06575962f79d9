"""Many bots that fail together, as an operator sees them: the fleet breaker, releases, and a look from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from support.stack import BOTCTL, Stack, eventually, token

pytestmark = pytest.mark.e2e

BOTS = {"ann": 910001, "bob": 910002, "cyd": 910003}


async def test_the_breaker_is_seen_all_are_released_and_a_daemon_out_of_sight_is_told(stack: Stack):
    fleet = [{"name": name, "token": token(bot_id)} for name, bot_id in BOTS.items()]
    missing = {"name": "odd", "token": token(910004), "handlers": "no_such_module:register"}
    stack.write_fleet(*fleet, missing)
    stack.start()
    for name in BOTS:
        await stack.until_running(name)
    await eventually(lambda: stack.bot("odd")["state"] == "quarantined", "odd is quarantined")

    for name in BOTS:
        os.kill(stack.bot(name)["pid"], signal.SIGSEGV)
    status = await eventually(lambda: (told := stack.status())["daemon"]["breaker"] and told, "the breaker is told of")
    assert "so restarts are held back" in status["daemon"]["breaker"]
    assert f"fleet breaker: {status['daemon']['breaker']}" in status["daemon"]["problems"]
    assert "botctl_breaker_open " in stack.metrics()
    assert "botctl_supervisor_held_back " in stack.metrics()
    for name in BOTS:
        await stack.until_running(name)
    await eventually(lambda: not stack.status()["daemon"]["breaker"], "the breaker is closed")
    await eventually(lambda: stack.fleet_events() == ["started", "paused", "resumed"], "the bus is told of it")

    # Released, it fails again, as nobody has mended it.
    released = stack.cli("release", "--all")
    assert "released: odd" in released.stderr
    await eventually(lambda: stack.bot("odd")["incarnation"] == 2, "odd was started")

    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("a PID namespace takes root")
    look = [*BOTCTL, "status", "--data-dir", str(stack.data)]
    outside = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *look], capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare failed" in outside.stderr:
        pytest.skip("PID namespaces are not to be had here")
    assert outside.returncode == 3
    assert "runs in another PID namespace" in outside.stderr
