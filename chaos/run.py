"""A whole run: a fleet, a calm phase, chaos by plan, peace, and the demands that must hold at the end.

`scripts/chaos [--bots 20] [--minutes N] [--seed S] [--faults A,B] [--report FILE]`; exit code 0 when all demands held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chaos import plan, processes  # noqa: E402
from chaos.faults import FAULTS  # noqa: E402
from chaos.outcome import Outcome  # noqa: E402
from chaos.report import Result, markdown, quantiles  # noqa: E402
from chaos.trial import Trials  # noqa: E402
from chaos.users import Users  # noqa: E402
from chaos.watch import Watch  # noqa: E402
from support.stack import Stack, new_stack, token  # noqa: E402

FIRST = 7700000001
VICTIMS_SHARE = 4
"""One bot in so many may be a victim at a time."""

PEACE_WITHIN = 60.0
"""Seconds after the last fault within which all must be as in the beginning."""


class Chaos:
    """One run on one stack."""

    def __init__(self, stack: Stack, *, bots: int, seed: int, heartbeat_timeout: float = 5.0) -> None:
        self.stack = stack
        self.seed = seed
        self.heartbeat_timeout = heartbeat_timeout
        self.names = [f"bot{number:02}" for number in range(bots)]
        self.ids = [FIRST + number for number in range(bots)]
        for file in (ROOT / "chaos" / "bots").glob("*.py"):
            shutil.copy(file, stack.folder)
        stack.write_fleet(
            *({"name": name, "token": token(key)} for name, key in zip(self.names, self.ids, strict=True)),
            handlers="chaos_bot:register",
            assistant={"instructions": "You are Echo.", "history": 4},
            limits={"memory": "320M", "memory_soft": "120M"},
            restart={"heartbeat_timeout": f"{heartbeat_timeout:g}s"},
        )

    async def run(self, steps: Iterator[plan.Step], *, calm: float, chaos: float, say: bool = True) -> Result:
        """Steps are taken from the plan until it, or its time, is over."""
        self._say = say
        await asyncio.to_thread(self.stack.start)
        await self.stack.until_running(*self.names)
        self.watch = Watch(self.stack, self.names, self.heartbeat_timeout)
        self.users = Users(self.stack, self.ids, self.seed)
        self.trials = Trials(self.stack, self.watch, self.users, self.ids)
        daemon = self.stack.daemon_pid
        watching = asyncio.create_task(self.watch.run())
        try:
            await self.users.start()
            began, load = time.time(), os.getloadavg()[0]
            await asyncio.sleep(calm)
            before = processes.tally(daemon)
            result = Result(self.seed, self.ids, (began, time.time()), (time.time(), 0.0), before=before)
            await self._harm(result, steps, chaos)
            await self.users.stop_writing()
            result.chaos = (result.chaos[0], time.time())
            await self._peace(result, daemon)
            result.load = (load, os.getloadavg()[0])
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await self.users.close()
            await self.watch.close()
        return result

    # --- harm ------------------------------------------------------------------------------------------------------

    async def _harm(self, result: Result, steps: Iterator[plan.Step], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        running: dict[asyncio.Task[Outcome], plan.Step] = {}
        most = max(1, len(self.names) // VICTIMS_SHARE)
        for step in steps:
            await self._wait(running, result, step.pause)
            while _in_the_way(step, list(running.values()), most):
                await self._wait(running, result, None)
            if time.monotonic() > deadline:
                break
            running[asyncio.create_task(self.trials.perform(step))] = step
        while running:
            await self._wait(running, result, None)

    async def _wait(self, running: dict[asyncio.Task[Outcome], plan.Step], result: Result, pause: float | None) -> None:
        """For a pause, or until a step is over; steps that are over are noted."""
        if pause is not None:
            await asyncio.sleep(pause)
        elif running:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in running if task.done()]:
            del running[task]
            outcome = task.result()
            result.outcomes.append(outcome)
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if not self._say:
            return
        told = f"{outcome.step.number:4} {outcome.fault.name:16} {outcome.name:6}"
        for what, value in (("detected", outcome.detected), ("runs", outcome.recovered), ("sound", outcome.sound)):
            told += f"  {what} {value:6.2f} s" if value is not None else f"  {what}      –  "
        sys.stdout.write("\n".join([told, *(f"     ! {one}" for one in outcome.violations)]) + "\n")
        sys.stdout.flush()

    # --- peace -----------------------------------------------------------------------------------------------------

    async def _peace(self, result: Result, daemon: int) -> None:
        """Wait until all is as in the beginning; what is not becomes a violation."""
        deadline = time.monotonic() + PEACE_WITHIN
        wrong = await self._wrong(result, daemon)
        while wrong and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            wrong = await self._wrong(result, daemon)
        await self.watch.look()
        result.violations += [what for outcome in result.outcomes for what in outcome.violations]
        result.violations += self.watch.violations + wrong
        result.messages = list(self.users.account.of())
        result.after = processes.tally(daemon)
        result.apologies = self.users.apologies
        result.heartbeats, result.looks = self.watch.heartbeats, self.watch.looks
        result.violations += [f"an answer to nothing: {text}" for text in self.users.account.unexpected]
        await self._check_answers(result)
        await asyncio.to_thread(self._check_commands, result)

    async def _wrong(self, result: Result, daemon: int) -> list[str]:
        body = await self.watch.get("/v1/status")
        if body is None:
            return ["control does not answer"]
        wrong = [f"{bot['name']} is {bot['state']} at the end" for bot in body["bots"] if bot["state"] != "running"]
        known = {one["pid"] for one in (*body["bots"], *body["services"]) if one["pid"]}
        known |= {*processes.titled(daemon, "botctl: forkserver"), *processes.titled(daemon, "botctl: control")}
        wrong += [f"a stranger at the end: {one}" for one in processes.strangers(daemon, known)]
        tally = processes.tally(daemon)
        if tally.descriptors > result.before.descriptors or tally.threads > result.before.threads:
            wrong.append(f"the supervisor had {result.before}, has {tally}")
        waiting = self.users.waiting()
        if waiting:
            wrong.append(f"{len(waiting)} messages have no answer, the first to bot {waiting[0].bot_id}")
        return wrong

    async def _check_answers(self, result: Result) -> None:
        """Answers too many only where the bot counted that nobody could know; dead letters only by intention."""
        rows = await self.stack.rows("SELECT bot_id, coalesce(sum(uncertain), 0) AS n FROM sends GROUP BY 1")
        uncertain = {row["bot_id"]: int(row["n"]) for row in rows}
        result.uncertain = sum(uncertain.values())
        extra: Counter[int] = Counter()
        for message in result.messages:
            extra[message.bot_id] += message.extra
        for bot_id, number in extra.items():
            allowed = uncertain.get(bot_id, 0)
            if number > allowed:
                name = self.names[self.ids.index(bot_id)]
                result.violations.append(f"{name} gave {number} answers too many, {allowed} are uncertain")
        rows = await self.stack.rows("SELECT state, count(*) AS n FROM inbox GROUP BY 1")
        states = {row["state"]: int(row["n"]) for row in rows}
        meant = sum(one.expects == "maybe" for one in result.messages)
        result.dead_letters = states.pop("dead", 0)
        if result.dead_letters != meant:
            result.violations.append(f"{result.dead_letters} dead letters, {meant} were meant")
        if set(states) - {"done"}:
            result.violations.append(f"not done in the database: {states}")

    def _check_commands(self, result: Result) -> None:
        """What operators type says the same: `status --json`, and `why` about one death of each class."""
        wrong = [bot["name"] for bot in self.stack.status()["bots"] if bot["state"] != "running"]
        if wrong:
            result.violations.append(f"`botctl status` says that {wrong} don't run")
        examples = {death["failure"]: death for one in result.outcomes for death in one.deaths if death["failure"]}
        for failure, death in examples.items():
            told = self.stack.cli("why", death["name"], "--last", "50").stdout
            if f"\n  {failure} · " not in told:
                result.violations.append(f"`botctl why {death['name']}` doesn't say {failure}")


def _in_the_way(step: plan.Step, running: list[plan.Step], most: int) -> bool:
    """Whether a step has to wait: for its victim, for a place among the victims, for the servers."""
    if step.victim is None:
        return any(one.victim is None for one in running)
    victims = [one.victim for one in running if one.victim is not None]
    if step.fault.name.startswith("forkserver") and any(one.fault.name.startswith("forkserver") for one in running):
        return True
    return step.victim in victims or len(victims) >= most


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--bots", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--calm", type=float, default=60.0, help="seconds before the first fault")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--faults", default="", help=f"only these, in this order: {', '.join(FAULTS)}")
    parser.add_argument("--report", type=Path, help="write the page there")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    if asked.faults:
        steps = plan.listed(asked.faults.split(","), seed, asked.bots, pause=asked.pause)
    else:
        steps = plan.draw(seed, asked.bots, 10_000, pause=asked.pause)
    sys.stdout.write(f"seed {seed}\n")
    with new_stack() as stack:
        chaos = Chaos(stack, bots=asked.bots, seed=seed)
        result = asyncio.run(chaos.run(iter(steps), calm=asked.calm, chaos=asked.minutes * 60))
        page = markdown(result)
        if result.violations:
            kept = Path(f"chaos-logs-{seed}")
            shutil.copytree(stack.data / "logs", kept, dirs_exist_ok=True)
            sys.stdout.write(f"logs are kept in {kept}\n")
    sys.stdout.write(page)
    if asked.report is not None:
        asked.report.write_text(page)
    calm, worst = (quantiles(one.latency for one in result.sorted_out()[name]) for name in ("calm", "witnesses"))
    ratio = worst[1] / calm[1] if calm[1] else 0.0
    sys.stdout.write(
        f"chaos: {len(result.outcomes)} faults, {len(result.messages)} messages, {result.lost} lost, "
        f"{len(result.violations)} demands broken, witnesses' p95 {ratio:.1f} times the calm one\n"
    )
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
