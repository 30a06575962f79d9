"""How soon an embedded server that was killed is of use again: `benchmarks/servers.py [BOTS] [KILLS]`.

Starts a whole stack (embedded servers, sandbox) with BOTS bots that are written to all the time, kills the main process
of PostgreSQL (-9) KILLS times, the first time as soon as the fleet runs, then Valkey as often, and prints seconds from
each kill until

- PostgreSQL takes logins again; every bot works again,
- Valkey answers again; it knows every bot; every bot has published an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from redis.exceptions import RedisError

from botctl.cli.client import ApiClient
from botctl.cli.note import require_note
from botctl.embedded.address import postgres_admin_url, valkey_admin_url
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.settings.places import DataFolder
from support.stack import Stack, eventually, new_stack, process_gone, token

FIRST = 7600000001
PATIENCE = 60.0
BETWEEN = 8.0
"""Seconds of ordinary work before the next kill."""


async def write(stack: Stack, bots: list[int]) -> None:
    """A message to each bot about three times a second, until cancelled."""
    async with stack.sandbox() as telegram:
        number = 0
        while True:
            for bot in bots:
                number += 1
                await telegram.say(bot, 100 + number % 3, f"message {number}")
                await asyncio.sleep(0.3 / len(bots))


async def kill(stack: Stack, name: str) -> float:
    """When the server's main process was killed; returns once it is dead."""
    pid = await stack.service_pid(name)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: process_gone(pid), "dead")
    return began


async def since(began: float, holds: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds from `began` until it holds."""
    await eventually(holds, what, PATIENCE)
    return time.monotonic() - began


async def postgres(stack: Stack, bots: int) -> str:
    """One kill of PostgreSQL."""
    url = postgres_admin_url(stack.data / "postgres")
    api = ApiClient(require_note(DataFolder(stack.data)))
    began = await kill(stack, "postgres")

    def working() -> bool:
        states = [str(bot["state"]) for bot in api.get("/v1/status", timeout=10)["bots"]]
        return states == ["running"] * bots

    logins = await since(began, lambda: ping_postgres(url), "logins")
    return f"logins {logins:6.2f}   all bots work {await since(began, working, 'all work'):6.2f}"


async def valkey(stack: Stack, bots: list[int]) -> str:
    """One kill of Valkey."""
    url = valkey_admin_url(stack.data / "valkey")
    async with stack.redis() as client:

        async def published() -> dict[int, str]:
            streams = {bot: f"botctl:bus:bot:{bot}:out" for bot in bots}
            return {bot: (await client.xinfo_stream(name))["last-generated-id"] for bot, name in streams.items()}

        began = await kill(stack, "valkey")
        killed = time.time() - (time.monotonic() - began)

        async def knows() -> bool:
            with contextlib.suppress(RedisError):
                return sum("-bot-" in user for user in await client.acl_users()) >= len(bots)
            return False

        async def all_published() -> bool:
            with contextlib.suppress(RedisError):
                return all(int(last.split("-")[0]) > 1000 * killed for last in (await published()).values())
            return False

        answers = await since(began, lambda: ping_valkey(url), "answers")
        known = await since(began, knows, "all users")
        return (
            f"answers {answers:6.2f}   knows all bots {known:6.2f}   "
            f"all have published {await since(began, all_published, 'all publish'):6.2f}"
        )


async def measure(stack: Stack, count: int, kills: int) -> None:
    """Print the figures of one run."""
    bots = [FIRST + number for number in range(count)]
    stack.write_fleet(*({"name": f"bot{n}", "token": token(bot)} for n, bot in enumerate(bots)))
    stack.start()
    await stack.until_running(*(f"bot{n}" for n in range(count)))
    writing = asyncio.create_task(write(stack, bots))
    try:
        for number in range(kills):
            print(f"postgres {number + 1}: {await postgres(stack, count)}", flush=True)
            await asyncio.sleep(BETWEEN)
        for number in range(kills):
            print(f"valkey   {number + 1}: {await valkey(stack, bots)}", flush=True)
            await asyncio.sleep(BETWEEN)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def main() -> None:
    """Run once."""
    bots = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with new_stack() as stack:
        asyncio.run(measure(stack, bots, kills))


if __name__ == "__main__":
    main()
