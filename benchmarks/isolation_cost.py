"""What the isolation of processes costs: `benchmarks/isolation_cost.py [KILLS] [BOTS]`.

One stack with a bot of each level, and BOTS idle ones of each for their memory. They are killed in turns, in an order
drawn anew for each round. Prints, for each level, milliseconds from kill -9 to the next getUpdates and the PSS and the
private memory of an idle bot, in MB (medians).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from botctl.sandbox.client import SandboxClient
from support.stack import Stack, eventually, new_stack, token

FIRST = 7500000001
WISHES = ("none", "landlock", "auto")


def memory(pid: int) -> tuple[float, float]:
    """PSS and private memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    figures = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
    return figures["Pss:"], figures["Private_Dirty:"] + figures["Private_Clean:"]


def polled_after(telegram: SandboxClient, bot_id: int, number: int) -> Callable[[], Awaitable[float | None]]:
    """When a new process polled for the first time after a call of that number; None until then."""

    async def polled() -> float | None:
        calls = await telegram.calls(method="getUpdates", bot_id=bot_id, after=number)
        fresh = [call["at"] for call in calls if call["status"] == 200 and call["parameters"]["timeout"] == "0"]
        return fresh[0] if fresh else None

    return polled


async def measure(stack: Stack, kills: int, bots: int) -> None:
    """Print the figures of one run."""
    wishes = {f"{wish}{number}": wish for number in range(bots) for wish in WISHES}
    ids = {name: FIRST + number for number, name in enumerate(wishes)}
    stack.write_fleet(
        *({"name": name, "token": token(ids[name]), "isolation": wish} for name, wish in wishes.items()),
        restart={"intensity": 1000, "first_delay": "0s"},
    )
    stack.start()
    await stack.until_running(*wishes)
    await asyncio.sleep(3.0)  # settled
    status = {bot["name"]: bot for bot in stack.status()["bots"]}
    levels = {wish: status[f"{wish}0"]["isolation"] for wish in WISHES}
    sizes = {
        wish: [memory(status[name]["pid"]) for name in wishes if wishes[name] == wish and status[name]["pid"]]
        for wish in WISHES
    }
    times: dict[str, list[float]] = {wish: [] for wish in WISHES}
    async with stack.sandbox() as telegram:
        for _ in range(kills):
            for wish in random.sample(WISHES, len(WISHES)):
                name = f"{wish}0"
                seen = (await telegram.calls(method="getUpdates", bot_id=ids[name], limit=1))[-1]["number"]
                pid, killed = stack.bot(name)["pid"], time.time()
                os.kill(pid, signal.SIGKILL)
                polled = await eventually(polled_after(telegram, ids[name], seen), "polling again")
                times[wish].append(1000 * (polled - killed))
                await stack.until_running(name)
                await asyncio.sleep(1.2)  # well for long enough to be started again at once
    print(f"{'wished':9} {'in force':9} {'median ms':>9} {'p90 ms':>7} {'worst':>6} {'PSS MB':>7} {'private MB':>10}")
    for wish in WISHES:
        taken = sorted(times[wish])
        pss, private = (statistics.median(column) for column in zip(*sizes[wish], strict=True))
        print(
            f"{wish:9} {levels[wish]:9} {statistics.median(taken):9.0f} {taken[int(len(taken) * 0.9)]:7.0f}"
            f" {taken[-1]:6.0f} {pss:7.1f} {private:10.1f}"
        )


def main() -> None:
    """Run once."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    bots = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with new_stack() as stack:
        asyncio.run(measure(stack, kills, bots))


if __name__ == "__main__":
    main()
