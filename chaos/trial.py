"""One fault: from its injection to the moment when its victim has answered everything, and what was wrong meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chaos import processes
from chaos.faults import OTHERS, Fault, Way
from chaos.plan import Step
from chaos.users import Message, Users
from chaos.watch import Watch
from support.stack import Stack

BACK_WITHIN = 60.0
"""Seconds within which a victim has to run and to have answered everything. Poison, quarantine and hangs included."""

Mend = Callable[[], Awaitable[None]]
"""Takes back what lasts."""

CLEAN_WITHIN = 5.0
"""Seconds after its recovery within which nothing may be left of a victim's dead incarnations."""

STABLE = 4.0
"""Seconds for which all witnesses must have been well after a server's fault: some notice late that it was away."""

POLL = 0.25


@dataclass
class Outcome:
    """What came of one step. `began`: seconds since the epoch; the others are seconds after it, None when unknown."""

    step: Step
    began: float
    name: str = ""
    detected: float | None = None
    recovered: float | None = None
    sound: float | None = None
    deaths: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def fault(self) -> Fault:
        """What was done."""
        return self.step.fault

    @property
    def ended(self) -> float:
        """When its victim was sound again, in seconds since the epoch."""
        return self.began + (self.sound if self.sound is not None else BACK_WITHIN)


class LateError(Exception):
    """Something has not come about in time; the message says what."""


class Trials:
    """Performs steps on a fleet; each call of `perform` is one."""

    def __init__(self, stack: Stack, watch: Watch, users: Users, ids: list[int]) -> None:
        self.daemon = stack.daemon_pid
        self._stack = stack
        self._watch = watch
        self._users = users
        self._ids = ids

    async def perform(self, step: Step) -> Outcome:
        """Do it, follow it to its end, judge it."""
        outcome = Outcome(step, time.time())
        fault = step.fault
        try:
            async with asyncio.timeout(2 * BACK_WITHIN):
                if step.victim is None:
                    await self._server(outcome)
                else:
                    outcome.name = self._watch.bots[step.victim].name
                    self._watch.take_as_victim(step.victim, fault.name)
                    try:
                        await self._victim(outcome, step.victim)
                    finally:
                        self._watch.make_witness(step.victim)
        except LateError as error:
            outcome.violations.append(str(error))
        except TimeoutError:
            outcome.violations.append("it had no end")
        victim = f" on {outcome.name}" if outcome.name else ""
        outcome.violations = [f"step {step.number}, {fault.name}{victim}: {what}" for what in outcome.violations]
        return outcome

    # --- a bot -----------------------------------------------------------------------------------------------------

    async def _victim(self, outcome: Outcome, bot: int) -> None:
        fault = outcome.fault
        before = await self._until(lambda: self._sight(outcome.name), "its pid is known")
        counted = before["counters"].get("dead_letters", 0)
        has_group = processes.own_group(before["pid"], self.daemon)
        outcome.began = time.time()
        message, mend = await self._inject(outcome, bot, before["pid"])
        if fault.leaves:
            mark = self._mark(message)
            await self._until(lambda: self._marked(mark), "its subprocesses are seen")
        await asyncio.sleep(fault.holds)
        if fault.way is Way.HOPELESS:
            await self._in_state(outcome.name, "quarantined")
            outcome.detected = time.time() - outcome.began
            await mend()
            if not await self._watch.post(f"/v1/bots/{outcome.name}/release"):
                outcome.violations.append("it can't be released")
        else:
            await mend()
        await self._until(lambda: self._deaths(outcome), f"{fault.deaths} deaths are told of")
        if fault.buried:
            await self._until(lambda: self._buried(outcome.name, counted, fault), "its dead letter is counted")
        gone = {before["pid"]} if fault.deaths or fault.name == "threads_left" else set()
        after = await self._until(lambda: self._back(outcome, gone), "it runs again")
        await self._until(lambda: self._all_answered(bot), "everything it was sent is answered")
        outcome.sound = time.time() - outcome.began
        await self._deaths(outcome)
        if fault.deaths or gone:
            outcome.recovered = await self._ready_after(outcome, after["incarnation"])
        if outcome.deaths and outcome.detected is None:
            outcome.detected = min(death["ended_at"] for death in outcome.deaths) - outcome.began
        self._judge(outcome, before, after)
        await self._look_for_leftovers(outcome, bot, self._mark(message), has_group)

    async def _inject(
        self, outcome: Outcome, bot: int, pid: int
    ) -> tuple[Message | None, Callable[[], Awaitable[None]]]:
        """Do it. Gives the message that did, and how to take back what lasts."""
        fault = outcome.fault

        async def nothing() -> None:
            return

        if fault.way is Way.INSIDE:
            kind = "exit_7" if fault.name == "poison" else fault.name
            message = await self._users.attack(bot, kind, again=fault.buried)
            message.buried = fault.buried
            if fault.name == "threads_left":
                await self._until(lambda: _done(bool(message.answers)), "its threads are there")
                await self._watch.post(f"/v1/bots/{outcome.name}/restart")
            return message, nothing
        if fault.way is Way.HOPELESS:
            return None, await self._make_hopeless(fault, bot, outcome.name, pid)
        if fault.way is Way.SERVICE:
            (forkserver, *_) = await asyncio.to_thread(processes.titled, self.daemon, "botctl: forkserver")
            os.kill(forkserver, signal.SIGKILL if fault.name == "forkserver_kill" else signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
            return None, lambda: _signal(forkserver, signal.SIGCONT)
        sign = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(fault.name, signal.SIGSTOP)
        os.kill(pid, sign)
        return None, (lambda: _signal(pid, signal.SIGCONT)) if fault.name == "stop_and_cont" else nothing

    async def _make_hopeless(self, fault: Fault, bot: int, name: str, pid: int) -> Mend:
        if fault.name == "bad_token":
            client = self._stack.sandbox()
            refusal = await client.inject_fault("getUpdates", bot_id=self._ids[bot], status=401, times=None)

            async def accept() -> None:
                await client.clear_faults(refusal)
                await client.close()

            return accept
        file = self._stack.folder / f"{'broken' if fault.name == 'bad_code' else 'crashing'}-{name}"
        await asyncio.to_thread(file.touch)
        os.kill(pid, signal.SIGKILL)

        async def mend() -> None:
            await asyncio.to_thread(file.unlink)

        return mend

    def _judge(self, outcome: Outcome, before: dict[str, Any], after: dict[str, Any]) -> None:
        fault = outcome.fault
        told = [death for death in outcome.deaths if death["failure"] is not None]
        expected = [death for death in told if death["failure"] == fault.failure]
        for death in told:
            if death["failure"] not in {fault.failure, *OTHERS.get(fault.name, ())} - {""}:
                told_as = f"{death['failure']} ({death['exit']}, {death['cause']})"
                outcome.violations.append(f"a death is told as {told_as}, not as {fault.failure or 'none'}")
        if len(expected) < min(fault.deaths, 1):
            outcome.violations.append(f"no death is told as {fault.failure}: {[one['failure'] for one in told]}")
        for death in expected:
            if fault.exit and death["exit"] != fault.exit:
                outcome.violations.append(f"a death is told with {death['exit']}, not {fault.exit}")
            if fault.stacks and fault.stacks not in death["stacks"]:
                outcome.violations.append(f"the stacks don't say {fault.stacks!r}: {death['stacks'][:300]!r}")
            if fault.told not in death["cause"]:
                outcome.violations.append(f"the cause doesn't say {fault.told!r}: {death['cause']!r}")
        if not fault.deaths and not told and fault.name != "threads_left" and before["pid"] != after["pid"]:
            outcome.violations.append("it is another process now, though nobody should have died")
        if outcome.sound is not None and outcome.sound > BACK_WITHIN:
            outcome.violations.append(f"it needed {outcome.sound:.1f} s")

    async def _look_for_leftovers(self, outcome: Outcome, bot: int, mark: str, has_group: bool) -> None:
        dead = {death["incarnation"] for death in outcome.deaths}
        left: set[int] = set()

        async def clean() -> bool:
            nonlocal left
            left = await asyncio.to_thread(processes.of_incarnations, self._ids[bot], dead)
            if mark:
                left |= await asyncio.to_thread(processes.marked, mark)
                left |= await asyncio.to_thread(processes.marked, f"{mark}-bare") if has_group else set()
            return not left

        try:
            await self._until(clean, "clean", CLEAN_WITHIN)
        except LateError:
            told = "; ".join(f"{pid} {processes.command_line(pid)[:100]}" for pid in sorted(left)[:5])
            outcome.violations.append(f"{len(left)} processes are left of dead incarnations: {told}")

    # --- a server --------------------------------------------------------------------------------------------------

    async def _server(self, outcome: Outcome) -> None:
        name = outcome.fault.name.removesuffix("_kill")
        pid = (await self._until(lambda: self._service(name), f"{name} is known"))["pid"]
        outcome.began = time.time()
        with self._watch.servers_harmed():
            os.kill(pid, signal.SIGKILL)

            async def back() -> bool:
                found = await self._service(name)
                return found is not None and found["pid"] not in (None, pid) and found["state"] == "running"

            await self._until(back, f"{name} is back")
            outcome.recovered = time.time() - outcome.began

            well_since: float | None = None

            async def all_well() -> bool:
                nonlocal well_since
                body = await self._watch.get("/v1/status") or {"bots": []}
                states = {bot["name"]: bot["state"] for bot in body["bots"]}
                if all(states.get(one.name) == "running" for one in self._watch.bots if not one.victim_of):
                    well_since = well_since or time.time()
                else:
                    well_since = None
                return well_since is not None and time.time() - well_since > STABLE

            await self._until(all_well, "all witnesses run")
            outcome.sound = (well_since or time.time()) - outcome.began

    async def _service(self, name: str) -> dict[str, Any] | None:
        body = await self._watch.get("/v1/status")
        found = [one for one in body["services"] if one["name"] == name] if body else []
        return found[0] if found else None

    # --- conditions ------------------------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], Awaitable[Any]], what: str, timeout: float = BACK_WITHIN) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := await condition()):
            if time.monotonic() > deadline:
                raise LateError(f"not within {timeout:g} s: {what}")
            await asyncio.sleep(POLL)
        return value

    async def _sight(self, name: str) -> dict[str, Any] | None:
        body = await self._watch.get("/v1/status")
        found = [bot for bot in body["bots"] if bot["name"] == name and bot["pid"]] if body else []
        return found[0] if found else None

    async def _in_state(self, name: str, state: str) -> None:
        async def reached() -> bool:
            body = await self._watch.get("/v1/status") or {"bots": []}
            return any(bot["name"] == name and bot["state"] == state for bot in body["bots"])

        await self._until(reached, f"it is {state}")

    async def _deaths(self, outcome: Outcome) -> bool:
        """Take its deaths since the injection; whether there are as many as there must be."""
        body = await self._watch.get(f"/v1/bots/{outcome.name}/deaths?limit=30&planned=true")
        if body is None:
            return False
        outcome.deaths = [death for death in body["deaths"] if death["ended_at"] >= outcome.began - 0.01]
        return sum(death["failure"] is not None for death in outcome.deaths) >= outcome.fault.deaths

    async def _buried(self, name: str, before: float, fault: Fault) -> bool:
        sight = await self._sight(name)
        return sight is not None and sight["counters"].get("dead_letters", 0) > (0 if fault.deaths else before)

    async def _back(self, outcome: Outcome, gone: set[int]) -> dict[str, Any] | None:
        sight = await self._sight(outcome.name)
        dead = gone | {death["pid"] for death in outcome.deaths if "pid" in death}
        if sight is None or sight["state"] != "running" or sight["pid"] in dead:
            return None
        last = max((death["incarnation"] for death in outcome.deaths), default=0)
        return sight if sight["incarnation"] > last else None

    async def _all_answered(self, bot: int) -> bool:
        return not self._users.waiting(bot, before=time.time() - 1.0)

    async def _ready_after(self, outcome: Outcome, incarnation: int) -> float | None:
        ready: float | None = None

        async def known() -> bool:
            nonlocal ready
            body = await self._watch.get(f"/v1/runs?bot={outcome.name}&limit=20") or {"runs": []}
            found = [one["ready_at"] for one in body["runs"] if one["incarnation"] == incarnation and one["ready_at"]]
            ready = found[0] - outcome.began if found else None
            return ready is not None

        await self._until(known, "its readiness is recorded")
        return ready

    def _mark(self, message: Message | None) -> str:
        numbers = [number for number, one in self._users.messages.items() if one is message]
        return f"m{numbers[0]}x" if numbers else ""

    async def _marked(self, mark: str) -> set[int]:
        return await asyncio.to_thread(processes.marked, mark)


async def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


async def _done(value: bool) -> bool:
    return value
