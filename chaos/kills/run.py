"""A whole run: a fleet under load, a calm phase, kills and faults by plan, peace, and what must hold at the end.

`scripts/chaos kills [--kills 1000] [--bots 10] [--chats 100] [--seed S] [--faults A,B] [--report FILE]`; exit code 0
when all demands held.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from botctl.cli.chaos.processes import descendants, process_gone  # noqa: E402
from chaos.kills import plan  # noqa: E402
from chaos.kills.harm import Harm  # noqa: E402
from chaos.kills.load import SORRY, Load  # noqa: E402
from chaos.kills.report import Result, markdown  # noqa: E402
from chaos.kills.verdict import Verdict  # noqa: E402
from chaos.watch import Watch  # noqa: E402
from support.stack import Stack, new_stack, token  # noqa: E402

FIRST = 7800000001


class Kills:
    """One run on one stack. `every`: seconds between two messages of a chat."""

    def __init__(self, stack: Stack, *, bots: int, chats: int, seed: int, every: float = 2.5) -> None:
        self.stack = stack
        self.seed = seed
        self.chats = chats
        self.every = every
        self.names = [f"load{number:02}" for number in range(bots)]
        self.ids = [FIRST + number for number in range(bots)]
        shutil.copy(ROOT / "chaos" / "bots" / "load_bot.py", stack.folder)
        stack.write_fleet(
            *(
                {"name": name, "token": token(key), "subscribe": [f"load.passed.{name}"]}
                for name, key in zip(self.names, self.ids, strict=True)
            ),
            handlers="load_bot:register",
            assistant={"instructions": "You are Echo.", "history": 2, "apology": SORRY},
            # Kills from outside don't count; the few failures that faults lead to must not stop the run.
            restart={"intensity": 1000, "first_delay": "50ms", "max_delay": "1s"},
        )

    async def run(self, drawn: plan.Plan, *, calm: float, say: bool = True) -> Result:
        """All of the plan, and what came of it."""
        self._say = say
        await asyncio.to_thread(self.stack.start)
        await self.stack.until_running(*self.names)
        watch = Watch(self.stack, self.names, 10.0)
        load = Load(self.stack, self.ids, self.names, self.chats, self.seed, self.every)
        harm = Harm(self.stack, watch, self.names, self.ids)
        verdict = Verdict(self.stack, watch, load, self.names, self.ids)
        machine = os.getloadavg()[0]
        try:
            await load.start()
            began = time.time()
            await asyncio.sleep(calm)
            harmed = time.time()
            await self._harm(harm, drawn)
            await load.stop_writing()
            result = Result(self.seed, len(self.names), self.chats, (began, harmed), (harmed, time.time()), harm.done)
            result.violations += harm.done.violations + await verdict.peace()
            result.violations += [what async for what in verdict.violations()]
            result.messages = list(load.messages.values())
            result.unlinked, result.excuses = verdict.excuses.surplus.total(), len(verdict.excuses.of)
            result.uncertain = sum(verdict.uncertain.values())
            result.load = (machine, os.getloadavg()[0])
        finally:
            await harm.close()
            await load.close()
            await watch.close()
        result.violations += await asyncio.to_thread(self._stop)
        return result

    async def _harm(self, harm: Harm, drawn: plan.Plan) -> None:
        room = asyncio.Semaphore(max(1, len(self.names) // 3))
        failing: asyncio.Task[None] | None = None

        async def kill(one: plan.Kill) -> None:
            async with room:
                await harm.kill(one)

        async with asyncio.TaskGroup() as group:
            for number, one in enumerate(drawn.kills):
                if number in drawn.faults:
                    if failing is not None:
                        await failing
                    self._tell(f"{number:5} kills, then: {drawn.faults[number].name}")
                    failing = group.create_task(harm.fail(drawn.faults[number]))
                await asyncio.sleep(one.pause)
                async with room:  # don't run ahead
                    pass
                group.create_task(kill(one))

    def _stop(self) -> list[str]:
        """`botctl stop`, after which nothing may be left."""
        daemon = self.stack.daemon_pid
        family = {daemon, *descendants(daemon)}
        done = self.stack.cli("stop", check=False)
        wrong = [] if done.returncode == 0 else [f"`botctl stop` ended with {done.returncode}: {done.stderr[-300:]}"]
        left = [pid for pid in family if not process_gone(pid)]
        return wrong + ([f"{len(left)} processes are left after `botctl stop`"] if left else [])

    def _tell(self, what: str) -> None:
        if self._say:
            sys.stdout.write(what + "\n")
            sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/chaos kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--bots", type=int, default=10)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--calm", type=float, default=20.0, help="seconds before the first kill")
    parser.add_argument("--pause", type=float, default=0.9, help="seconds between two kills, on average")
    parser.add_argument("--every", type=float, default=2.5, help="seconds between two messages of a chat, on average")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--faults", default="", help=f"only these, in this order: {', '.join(plan.FAULTS)}")
    parser.add_argument("--report", type=Path, help="write the page there")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    names = [name for name in asked.faults.split(",") if name]
    drawn = plan.draw(seed, asked.bots, asked.kills, pause=asked.pause, names=names)
    sys.stdout.write(f"seed {seed}\n")
    with new_stack() as stack:
        kills = Kills(stack, bots=asked.bots, chats=asked.chats, seed=seed, every=asked.every)
        result = asyncio.run(kills.run(drawn, calm=asked.calm))
        page = markdown(result)
        if result.violations:
            kept = Path(f"chaos-logs-{seed}")
            shutil.copytree(stack.data / "logs", kept, dirs_exist_ok=True)
            sys.stdout.write(f"logs are kept in {kept}\n")
    sys.stdout.write(page)
    if asked.report is not None:
        asked.report.write_text(page)
    sys.stdout.write(
        f"kills: {result.kills} kills, {len(result.done.phases)} faults, {len(result.messages)} messages, "
        f"{result.lost} lost, {result.surplus} parts too many, {result.uncertain} uncertain, "
        f"{len(result.violations)} demands broken\n"
    )
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
