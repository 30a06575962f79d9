"""The memory limit counts what a bot makes itself: the smallest one is enough for a bot that just lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from botctl.fleet.model import Limits
from support.stack import Stack, descendants, eventually, token

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SMALLEST = next(rule.ge for rule in Limits.model_fields["memory"].metadata if hasattr(rule, "ge"))
ONE, OTHER = 7420000001, 7420000002
PERSON = {"id": 1, "first_name": "Ada"}


def forkserver_of(stack: Stack) -> int:
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(stack.daemon_pid)}
    return next(pid for pid, title in titles.items() if b"forkserver" in title)


async def test_bots_with_the_smallest_limit_live_on_whoever_else_dies(stack: Stack) -> None:
    limits = {"memory": SMALLEST, "attempts": 1}
    stack.write_fleet(
        {"name": "one", "token": token(ONE), "limits": limits},
        {"name": "other", "token": token(OTHER), "limits": limits},
    )
    stack.start()
    await stack.until_running("one", "other")
    first = stack.bot("one")
    async with stack.sandbox() as telegram:
        for number in range(30):
            await telegram.say(ONE, number % 5 + 1, f"hello {number}", PERSON)

        async def answered() -> bool:
            return all([len(await telegram.transcript(ONE, chat)) >= 12 for chat in range(1, 6)])

        await eventually(answered, "every message is answered")

    os.kill(forkserver_of(stack), signal.SIGKILL)
    stack.cli("restart", "other")
    shared = first["memory_mb"]

    def measured() -> bool:
        # Its share of what the dead forkserver had has grown: it has been measured since.
        return float(stack.bot("one")["memory_mb"]) > shared + 10

    await eventually(measured, "the survivor has been measured", 40)
    after, other = stack.bot("one"), stack.bot("other")
    assert (after["pid"], after["restarts"], after["state"]) == (first["pid"], 0, "running"), after
    assert after["memory_mb"] > 0.8 * SMALLEST / 1e6, "what it shares alone is more than the soft limit"
    assert after["own_mb"] < 0.2 * SMALLEST / 1e6
    assert other["own_mb"] < 0.2 * SMALLEST / 1e6
    assert "memory" not in {bot["last_failure"] for bot in (after, other)}
