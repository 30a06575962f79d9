"""A whole run: a fleet under load, its disk full for a while, room again; what is told meanwhile, and what must hold.

`scripts/chaos disk [--side data|logs] [--seconds 60] [--seed S] [--report FILE]`; exit code 0 when all demands held, 3
where the right to mount is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chaos.disk.mount import NoRightError, full, in_namespace, mount  # noqa: E402
from chaos.kills.load import Load  # noqa: E402
from chaos.kills.messages import Message  # noqa: E402
from chaos.kills.report import percentiles  # noqa: E402
from chaos.kills.run import Kills  # noqa: E402
from chaos.kills.verdict import Verdict  # noqa: E402
from chaos.waiting import LateError, until  # noqa: E402
from chaos.watch import Watch  # noqa: E402
from support.stack import Stack, new_stack  # noqa: E402

NO_RIGHT = 3
MEGABYTES = {"data": 640, "logs": 160}
"""Of the small file system."""

TOLD_WITHIN = 15.0
"""Seconds of a full disk after which operators must be able to read of it."""


@dataclass
class Outcome:
    """What came of one run. Times: seconds since the epoch."""

    side: str
    seed: int
    messages: list[Message] = field(default_factory=list)
    full: tuple[float, float] = (0.0, 0.0)
    at_rest: float = 0.0
    told: dict[str, str] = field(default_factory=dict)
    """What operators read, by where."""
    surplus: int = 0
    uncertain: int = 0
    violations: list[str] = field(default_factory=list)


class FullDisk:
    """One run on one stack. `side`: whose file system is small and gets full."""

    def __init__(self, stack: Stack, side: str, seed: int, *, bots: int = 4, chats: int = 24) -> None:
        self.stack = stack
        self.place = stack.data if side == "data" else stack.data / "logs"
        stack.data.mkdir(exist_ok=True)
        mount(self.place, MEGABYTES[side])
        self.fleet = Kills(stack, bots=bots, chats=chats, seed=seed, every=2.0)
        self.outcome = Outcome(side, seed)

    async def run(self, seconds: float, *, calm: float = 5.0) -> Outcome:
        """Load, full for so long, room again, peace."""
        names, ids, outcome = self.fleet.names, self.fleet.ids, self.outcome
        await asyncio.to_thread(self.stack.start)
        await self.stack.until_running(*names)
        watch = Watch(self.stack, names, 10.0)
        load = Load(self.stack, ids, names, self.fleet.chats, outcome.seed, self.fleet.every)
        verdict = Verdict(self.stack, watch, load, names, ids)
        try:
            await load.start()
            await asyncio.sleep(calm)
            async with full(self.place):
                began = time.time()
                told = asyncio.create_task(self._told())
                await asyncio.sleep(seconds)
                await told
                outcome.full = (began, time.time())
            await asyncio.sleep(calm)
            await load.stop_writing()
            outcome.violations += await verdict.peace()
            outcome.at_rest = time.time()
            outcome.violations += [what async for what in verdict.violations()]
            outcome.uncertain = sum(verdict.uncertain.values())
            outcome.messages = list(load.messages.values())
            outcome.surplus = sum(one.surplus for one in outcome.messages) + verdict.excuses.surplus.total()
            await self._told_over()
        finally:
            await load.close()
            await watch.close()
        return outcome

    async def _told(self) -> None:
        """Operators who look must read which disk it is."""

        async def status() -> bool:
            done = await asyncio.to_thread(self.stack.cli, "status", check=False)
            self.outcome.told["status"] = _lines_with(done.stdout + done.stderr, "disk")
            return str(self.place) in self.outcome.told["status"]

        async def doctor() -> bool:
            done = await asyncio.to_thread(self.stack.cli, "doctor", check=False)
            self.outcome.told["doctor"] = _lines_with(done.stdout + done.stderr, str(self.place), after=1)
            return done.returncode != 0 and str(self.place) in self.outcome.told["doctor"]

        for name, condition in (("status", status), ("doctor", doctor)):
            try:
                await until(condition, f"`botctl {name}` names the full disk", TOLD_WITHIN, 0.5)
            except LateError as error:
                self.outcome.violations.append(str(error))

    async def _told_over(self) -> None:
        async def over() -> bool:
            done = await asyncio.to_thread(self.stack.cli, "status", check=False)
            return done.returncode == 0 and str(self.place) not in _lines_with(done.stdout, "disk")

        async def logged() -> bool:
            self.outcome.told["log"] = _lines_with(await asyncio.to_thread(self.stack.logs), "disk", most=4)
            return str(self.place) in self.outcome.told["log"]

        for condition, what in ((over, "`botctl status` is content again"), (logged, "the log names the disk")):
            try:
                await until(condition, what, TOLD_WITHIN, 0.5)
            except LateError as error:
                self.outcome.violations.append(str(error))


def _lines_with(text: str, word: str, *, after: int = 0, most: int = 10) -> str:
    """The lines with a word, each with so many that follow."""
    lines = text.splitlines()
    found = [line.strip() for at, each in enumerate(lines) if word in each for line in lines[at : at + 1 + after]]
    return "\n".join(line[:400] for line in found[:most])


def markdown(outcome: Outcome) -> str:
    """The page."""
    began, ended = outcome.full
    groups = {
        "before": [one for one in outcome.messages if one.at < began],
        "while it was full": [one for one in outcome.messages if began <= one.at < ended],
        "after": [one for one in outcome.messages if one.at >= ended],
    }
    answered = sum(one.answered is not None and one.answered < ended for one in groups["while it was full"])
    lines = [
        f"The disk of the {'data folder' if outcome.side == 'data' else 'logs'} full for {ended - began:.0f} s, seed "
        f"{outcome.seed}. {len(outcome.messages)} messages sent, "
        f"{sum(one.answered is None for one in outcome.messages)} lost; {answered} of "
        f"{len(groups['while it was full'])} answered while it was full. {outcome.surplus} parts too many, "
        f"{outcome.uncertain} counted as uncertain. At rest {outcome.at_rest - ended:.1f} s after that.",
        "",
        f"Broken demands: {len(outcome.violations)}." if outcome.violations else "No demand was broken.",
        *(f"- {violation}" for violation in outcome.violations),
        "",
        "| seconds to the first part of the answer | messages | p50 | p95 | p99 | worst |",
        "|---|---|---|---|---|---|",
    ]
    for name, messages in groups.items():
        figures = " | ".join(f"{value:.3f}" for value in percentiles(one.latency for one in messages))
        lines.append(f"| {name} | {len(messages)} | {figures} |")
    for name, told in outcome.told.items():
        lines += ["", f"Told by {name}:", "", "```", told, "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/chaos disk", description=__doc__)
    parser.add_argument("--side", choices=list(MEGABYTES), default="data", help="whose disk is full")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which it is full")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--report", type=Path, help="write the page there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not asked.inside:
        try:
            return in_namespace([str(Path(__file__).resolve()), "--inside", *sys.argv[1:]])
        except NoRightError as error:
            sys.stderr.write(f"chaos disk: {error}\n")
            return NO_RIGHT
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with new_stack() as stack:
        outcome = asyncio.run(FullDisk(stack, asked.side, seed).run(asked.seconds))
        if outcome.violations:
            kept = Path(os.environ.get("CHAOS_LOGS", ".")) / f"chaos-logs-{seed}"
            shutil.copytree(stack.data / "logs", kept, dirs_exist_ok=True)
            sys.stdout.write(f"logs are kept in {kept}\n")
    page = markdown(outcome)
    sys.stdout.write(page)
    if asked.report is not None:
        asked.report.write_text(page)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
