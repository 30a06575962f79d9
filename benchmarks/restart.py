"""How soon a bot polls again after kill -9: botctl beside supervisord, circus and PM2, `benchmarks/restart.py [N]`.

All of them run at the same time against one emulated Telegram, and are killed in turns, in an order that is drawn anew
for each round, so that noise hits all alike. The yardstick is the same for all: from the kill to the first getUpdates
of the new process (timeout 0) in the emulator's log. Nobody is killed before having polled for SETTLED seconds, which
spares the peers' own start-up guards, and the moment of a kill is drawn, so that periodic looks are met at any phase.

The peers' bot is `peer_bot.py`: the same imports, no database and no Redis. botctl's connects to both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import INSTALLERS, Peer, SkippedError, Variant
from processes import adopt_orphans, descendants, end_all, end_on_signals, finish_undisturbed, reap, title

from botctl import __version__
from botctl.sandbox.client import SandboxClient
from support.stack import Stack, eventually, new_stack, token

FIRST = 7800000001
SETTLED = 2.5
PATIENCE = 60.0
BOT = Path(__file__).with_name("peer_bot.py")


@dataclass
class Arm:
    """One supervised bot. `mark` stands in the command line of its process and in no other."""

    name: str
    settings: str
    version: str
    bot_id: int
    mark: str
    times: list[float] = field(default_factory=list)
    polled_at: float = 0.0

    def pid(self) -> int | None:
        """Of the bot's process now."""
        found = [pid for pid in descendants(os.getpid()) if self.mark in title(pid)]
        return found[0] if len(found) == 1 else None


async def first_poll(telegram: SandboxClient, arm: Arm, after: int) -> float | None:
    """When the emulator saw a new process's first call, in seconds of its clock."""
    calls = await telegram.calls(method="getUpdates", bot_id=arm.bot_id, after=after)
    fresh = [call["at"] for call in calls if call["status"] == 200 and call["parameters"]["timeout"] == "0"]
    return float(fresh[0]) if fresh else None


async def kill_once(telegram: SandboxClient, arm: Arm) -> float:
    """Seconds from kill -9 to the first getUpdates of the next process."""
    await asyncio.sleep(max(0.0, arm.polled_at + SETTLED - time.time()) + random.random())
    pid = await eventually(arm.pid, f"the process of {arm.name}", PATIENCE)
    last = (await telegram.calls(method="getUpdates", bot_id=arm.bot_id, limit=1))[-1]["number"]
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    deadline = killed + PATIENCE
    while (polled := await first_poll(telegram, arm, last)) is None:
        if time.time() > deadline:
            raise SkippedError(f"{arm.name} ({arm.settings}) did not come back within {PATIENCE:g} s")
        await asyncio.sleep(0.05)
    arm.polled_at = polled
    return polled - killed


def start_botctl(stack: Stack) -> list[Arm]:
    """Two bots of one daemon: with the default backoff, and without."""
    plain, fast = "benchplain", "benchfast"
    stack.write_fleet(
        {"name": plain, "token": token(FIRST)},
        {"name": fast, "token": token(FIRST + 1), "restart": {"first_delay": "0s"}},
    )
    stack.start()
    return [
        Arm("botctl", "default", __version__, FIRST, f"botctl: bot {plain}"),
        Arm("botctl", "first_delay: 0s", __version__, FIRST + 1, f"botctl: bot {fast}"),
    ]


def start_peers(folder: Path, url: str) -> tuple[list[Arm], dict[str, str]]:
    """The peers that can be had, and why the others can't."""
    arms: list[Arm] = []
    skipped: dict[str, str] = {}
    os.environ["TMPDIR"] = str(folder)  # what pip and supervisord leave in the folder of temporary files goes with ours
    for name, install in INSTALLERS.items():
        try:
            print(f"installing {name} …", file=sys.stderr)
            peer = install(folder)
            for variant in peer.variants:
                arms.append(_start(folder, url, FIRST + 10 + len(arms), peer, variant))
        except SkippedError as error:
            skipped[name] = str(error)
            print(f"{name} is left out: {error}", file=sys.stderr)
    return arms, skipped


def _start(folder: Path, url: str, bot_id: int, peer: Peer, variant: Variant) -> Arm:
    at = folder / str(bot_id)
    at.mkdir()
    variant.start(at, [sys.executable, str(BOT), url, token(bot_id)])
    return Arm(variant.peer, variant.settings, peer.version, bot_id, token(bot_id))


async def measure(telegram: SandboxClient, arms: list[Arm], rounds: int, skipped: dict[str, str]) -> list[Arm]:
    """Kill everybody once a round; those who stay away are dropped. The rest."""
    left: list[Arm] = []
    for arm in arms:
        try:
            arm.polled_at = await eventually(lambda arm=arm: first_poll(telegram, arm, 0), arm.name, PATIENCE)
            left.append(arm)
        except AssertionError:
            skipped[f"{arm.name} ({arm.settings})"] = f"its bot did not poll within {PATIENCE:g} s"
    for number in range(1, rounds + 1):
        for arm in random.sample(left, len(left)):
            reap()
            try:
                arm.times.append(await kill_once(telegram, arm))
            except (SkippedError, AssertionError) as error:
                left.remove(arm)
                skipped[f"{arm.name} ({arm.settings})"] = f"{error} (round {number})"
        if sys.stderr.isatty() or number % 10 == 0:
            print(f"round {number} of {rounds}", file=sys.stderr)
    return left


def summary(arm: Arm, base: float) -> dict[str, Any]:
    """The figures of one arm, in milliseconds."""
    times = sorted(1000 * seconds for seconds in arm.times)
    median = statistics.median(times)
    return {
        "name": arm.name,
        "settings": arm.settings,
        "version": arm.version,
        "kills": len(times),
        "median_ms": round(median, 1),
        "p95_ms": round(times[max(0, -(-95 * len(times) // 100) - 1)], 1),
        "worst_ms": round(times[-1], 1),
        "best_ms": round(times[0], 1),
        "ratio": round(median / base, 1),
        "times_ms": [round(1000 * seconds, 1) for seconds in arm.times],
    }


def report(arms: list[Arm], skipped: dict[str, str]) -> dict[str, Any]:
    """Everything for `--json`; printed as a table, too."""
    base = 1000 * statistics.median(arms[0].times)
    rows = [summary(arm, base) for arm in arms if arm.times]
    python, cores = platform.python_version(), os.cpu_count()
    print(f"\nkill -9 to the first getUpdates of the new process, ms; Python {python}, {cores} cores")
    print(f"{'':12} {'settings':30} {'version':22} {'median':>8} {'p95':>8} {'worst':>8} {'of':>4} {'ratio':>7}")
    for row in rows:
        print(
            f"{row['name']:12} {row['settings']:30} {row['version']:22} {row['median_ms']:8.0f} {row['p95_ms']:8.0f} "
            f"{row['worst_ms']:8.0f} {row['kills']:4} {row['ratio']:7.1f}"
        )
    for name, reason in skipped.items():
        print(f"{name}: left out: {reason}")
    return {"python": python, "cores": cores, "rows": rows, "skipped": skipped}


def run(rounds: int, only: Callable[[Arm], bool]) -> dict[str, Any]:
    """One run, with everything it needs ended and removed afterwards."""
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="botctl-restart-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        ending.callback(end_all)
        stack = ending.enter_context(new_stack())
        ending.callback(finish_undisturbed)
        arms = start_botctl(stack)
        peers, skipped = start_peers(folder, stack.urls["telegram"])
        arms += peers

        async def killing() -> None:
            async with stack.sandbox() as telegram:
                await measure(telegram, [arm for arm in arms if only(arm)], rounds, skipped)

        asyncio.run(killing())
        return report([arm for arm in arms if only(arm)], skipped)


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=50, metavar="N", help="kills of each (50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--default-settings", action="store_true", help="leave out the variants made faster")
    given = parser.parse_args()
    adopt_orphans()
    end_on_signals()
    found = run(given.rounds, lambda arm: arm.settings == "default" or not given.default_settings)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
