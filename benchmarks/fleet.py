"""A large fleet, idle and after a massacre: `benchmarks/fleet.py BOTS [--kill K] [--idle SECONDS]`.

Starts a whole stack (embedded servers, sandbox) with BOTS bots, then kills K of them at once with SIGKILL, and prints

- seconds from `botctl start` to the first and the last bot polling, by the emulator's log, and to all "running",
- before and after the kills, for each kind of process: how many, share of a core over an idle while, PSS, private
  memory, descriptors and threads; and the share of a core of the whole machine,
- seconds from the kills until each killed bot polled again: median, p95, worst.

With SECONDS of 60 the idle while sees two long polls of each bot and every periodic duty but the hourly ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from processes import (
    adopt_orphans,
    cpu,
    descendants,
    end_all,
    end_on_signals,
    finish_undisturbed,
    footprint,
    machine_cpu,
    reap,
    title,
)

from botctl.cli.client import ApiClient
from botctl.cli.note import require_note
from botctl.errors import BotctlError
from botctl.sandbox.client import SandboxClient
from botctl.settings.places import DataFolder
from support.stack import Stack, new_stack, token

FIRST = 7700000001
MOST_CALLS = 100_000
SERVING = ("running", "degraded")
SETTLING = 5.0
"""Seconds that a fleet is left alone before it is measured."""
ORDER = ("supervisor", "forkserver", "control", "bot", "postgres", "valkey", "sandbox", "other")


def kind_of(pid: int) -> str:
    """What a process of the stack is."""
    line = title(pid)
    if line.startswith("botctl: bot "):
        return "bot"
    if line.startswith("botctl: "):
        return line.removeprefix("botctl: ").split()[0]
    if "botctl.sandbox" in line:
        return "sandbox"
    for name in ("postgres", "valkey"):
        if name in line:
            return name
    return "other"


def family(daemon: int) -> set[int]:
    """Every process of the stack, the emulator too."""
    here = {pid for pid in descendants(os.getpid()) if "botctl.sandbox" in title(pid)}
    return {daemon, *descendants(daemon)} | here


async def idle(daemon: int, seconds: float) -> dict[str, Any]:
    """Figures of the stack while nothing happens."""
    await asyncio.sleep(SETTLING)
    kinds = {pid: kind_of(pid) for pid in family(daemon)}
    before = {pid: cpu(pid) for pid in kinds}
    machine, began = machine_cpu(), time.monotonic()
    await asyncio.sleep(seconds)
    machine, took = machine_cpu() - machine, time.monotonic() - began
    after = {pid: cpu(pid) for pid in kinds}
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted(set(kinds.values()), key=_place):
        pids = [pid for pid in kinds if kinds[pid] == kind and before[pid] is not None and after[pid] is not None]
        prints = [one for pid in pids if (one := footprint(pid)) is not None]
        if not prints:
            continue
        used = sum((after[pid] or 0.0) - (before[pid] or 0.0) for pid in pids)
        found[kind] = {
            "processes": len(prints),
            "cpu_percent": round(100 * used / took, 2),
            "pss_mb": round(sum(one.pss for one in prints), 1),
            "pss_mean_mb": round(statistics.mean(one.pss for one in prints), 1),
            "private_mean_mb": round(statistics.mean(one.private for one in prints), 1),
            "descriptors_mean": round(statistics.mean(one.descriptors for one in prints), 1),
            "threads_mean": round(statistics.mean(one.threads for one in prints), 1),
        }
    return {"kinds": found, "machine_cpu_percent": round(100 * machine / took, 1), "available_mb": _available()}


def _place(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:"))


def status(stack: Stack) -> dict[str, Any]:
    """What `botctl status --json` prints, without the price of a command."""
    return ApiClient(require_note(DataFolder(stack.data))).get("/v1/status", timeout=10)


def start_cost(daemon: int, bots: int) -> dict[str, float]:
    """Milliseconds of processor time a bot that each kind of process has used by now."""
    used: Counter[str] = Counter()
    for pid in family(daemon):
        used[kind_of(pid)] += cpu(pid) or 0.0
    return {kind: round(1000 * used[kind] / bots, 1) for kind in sorted(used, key=_place)}


async def until_serving(stack: Stack, names: Iterable[str], patience: float) -> float:
    """Wait until all of them run; the monotonic time. Prints the progress, and at the deadline what is in the way."""
    names, shown = set(names), None
    deadline = time.monotonic() + patience
    while True:
        try:
            bots = status(stack)["bots"]
        except (BotctlError, OSError) as error:
            print(f"  status: {error}", file=sys.stderr)
            bots = []
        states = Counter(bot["state"] for bot in bots if bot["name"] in names)
        if sum(states[state] for state in SERVING) == len(names):
            return time.monotonic()
        if states != shown:
            print(f"  {dict(sorted(states.items()))}", file=sys.stderr)
            shown = states
        if time.monotonic() > deadline:
            failures = Counter(str(bot.get("last_failure")) for bot in bots if bot["state"] not in SERVING)
            raise SystemExit(f"not all are running within {patience:g} s: {dict(states)}; failures {dict(failures)}")
        reap()
        await asyncio.sleep(0.5)


async def first_polls(telegram: SandboxClient, after: int, since: float) -> dict[int, float]:
    """When, after a call and a moment, each bot's first getUpdates of a process was answered."""
    found: dict[int, float] = {}
    for call in await telegram.calls(method="getUpdates", after=after, limit=MOST_CALLS):
        if call["status"] == 200 and call["parameters"]["timeout"] == "0" and call["at"] >= since:
            found.setdefault(call["bot_id"], call["at"])
    return found


async def massacre(stack: Stack, telegram: SandboxClient, names: list[str], patience: float) -> list[float]:
    """Kill bots at once; seconds until each polled again, sorted."""
    bots = {bot["name"]: bot for bot in status(stack)["bots"]}
    last = (await telegram.calls(method="getUpdates", limit=1))[-1]["number"]
    wanted = {int(bots[name]["bot_id"]) for name in names}
    killed = time.time()
    for name in names:
        os.kill(bots[name]["pid"], signal.SIGKILL)
    back: dict[int, float] = {}
    while wanted - back.keys():
        if time.time() > killed + patience:
            print(f"  {len(wanted - back.keys())} of {len(wanted)} did not come back in {patience:g} s")
            break
        await asyncio.sleep(0.5)
        back = await first_polls(telegram, last, killed)
    return sorted(back[bot_id] - killed for bot_id in wanted & back.keys())


def show(heading: str, figures: dict[str, Any]) -> None:
    """Print the figures of one idle while."""
    print(f"\n{heading}: machine {figures['machine_cpu_percent']} % of a core, {figures['available_mb']} MB available")
    print(f"{'':12} {'n':>5} {'CPU %':>7} {'PSS MB':>9} {'PSS each':>9} {'private':>8} {'fds':>7} {'threads':>8}")
    for kind, row in figures["kinds"].items():
        print(
            f"{kind:12} {row['processes']:5} {row['cpu_percent']:7.2f} {row['pss_mb']:9.1f} {row['pss_mean_mb']:9.1f} "
            f"{row['private_mean_mb']:8.1f} {row['descriptors_mean']:7.1f} {row['threads_mean']:8.1f}"
        )


async def measure(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    """Print the figures of one run; the same for `--json`."""
    names = [f"bot{number}" for number in range(given.bots)]
    stack.write_fleet(*({"name": name, "token": token(FIRST + n)} for n, name in enumerate(names)))
    began, clock = time.monotonic(), time.time()
    stack.start()
    served = time.monotonic()
    running = await until_serving(stack, names, given.patience)
    daemon = stack.daemon_pid
    async with stack.sandbox() as telegram:
        polls = sorted(at - clock for at in (await first_polls(telegram, 0, 0.0)).values())
        found: dict[str, Any] = {
            "bots": given.bots,
            "serving_s": round(served - began, 2),
            "first_poll_s": round(polls[0], 2),
            "last_poll_s": round(polls[-1], 2),
            "running_s": round(running - began, 2),
            "start_cpu_ms_per_bot": start_cost(daemon, given.bots),
        }
        print(
            f"{given.bots} bots: start served after {found['serving_s']} s, first poll {found['first_poll_s']} s, "
            f"last first poll {found['last_poll_s']} s, all running {found['running_s']} s"
        )
        print(f"processor time so far, ms a bot: {found['start_cpu_ms_per_bot']}")
        found["before"] = await idle(daemon, given.idle)
        show("before the kills", found["before"])
        if given.kill:
            times = await massacre(stack, telegram, random.sample(names, given.kill), given.patience)
            await until_serving(stack, names, given.patience)
            if times:
                found["back_s"] = {
                    "killed": given.kill,
                    "back": len(times),
                    "median": round(statistics.median(times), 3),
                    "p95": round(times[max(0, -(-95 * len(times) // 100) - 1)], 3),
                    "worst": round(times[-1], 3),
                }
                print(f"\n{given.kill} killed at once: {found['back_s']}")
            found["after"] = await idle(daemon, given.idle)
            show("after the kills", found["after"])
        restarts = [bot["restarts"] for bot in status(stack)["bots"]]
        found["restarts"] = sum(restarts)
        print(f"\nrestarts in all: {found['restarts']}")
    return found


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bots", type=int, metavar="BOTS")
    parser.add_argument("--kill", type=int, metavar="K", help="bots killed at once (a quarter)")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="length of an idle while (60)")
    parser.add_argument("--patience", type=float, default=180.0, metavar="SECONDS", help="longest wait (180)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="copy the stack's logs there")
    given = parser.parse_args()
    given.kill = given.bots // 4 if given.kill is None else min(given.kill, given.bots)
    adopt_orphans()
    end_on_signals()
    try:
        with new_stack() as stack:
            try:
                found = asyncio.run(measure(stack, given))
            finally:
                finish_undisturbed()
                if given.keep_logs is not None:
                    _keep(stack, given.keep_logs)
    finally:
        end_all()
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def _keep(stack: Stack, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (stack.data / "logs").glob("*.log*"):
        (folder / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
