"""One fault: from its injection to the moment when its victim has answered everything, and what was wrong meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from botctl.cli.chaos.processes import command_line
from chaos import processes
from chaos.faults import Fault, Way
from chaos.injection import Injection
from chaos.outcome import Outcome, judge
from chaos.plan import Step
from chaos.users import Users
from chaos.waiting import BACK_WITHIN, LateError, until
from chaos.watch import Watch
from support.stack import Stack

CLEAN_WITHIN = 5.0
"""Seconds after its recovery within which nothing may be left of a victim's dead incarnations."""

STABLE = 4.0
"""Seconds for which all witnesses must have been well after a server's fault: some notice late that it was away."""


class Trials:
    """Performs steps on a fleet; each call of `perform` is one."""

    def __init__(self, stack: Stack, watch: Watch, users: Users, ids: list[int]) -> None:
        self.daemon = stack.daemon_pid
        self._watch = watch
        self._users = users
        self._ids = ids
        self._injection = Injection(stack, watch, users, ids)

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
                    sight = None
                    try:
                        sight = await self._victim(outcome, step.victim)
                    finally:
                        self._watch.make_witness(step.victim, sight)
        except LateError as error:
            outcome.violations.append(str(error))
        except TimeoutError:
            outcome.violations.append("it had no end")
        victim = f" on {outcome.name}" if outcome.name else ""
        outcome.violations = [f"step {step.number}, {fault.name}{victim}: {what}" for what in outcome.violations]
        return outcome

    # --- a bot -----------------------------------------------------------------------------------------------------

    async def _victim(self, outcome: Outcome, bot: int) -> dict[str, Any] | None:
        """Its status in the end."""
        fault = outcome.fault
        before = await until(lambda: self._sight(outcome.name), "its pid is known")
        counted = before["counters"].get("dead_letters", 0)
        has_group = processes.own_group(before["pid"], self.daemon)
        outcome.began = time.time()
        message, mend = await self._injection.inject(fault, bot, outcome.name, before["pid"])
        mark = message.mark if message is not None else ""
        try:
            if fault.leaves:
                await until(lambda: self._marked(mark), "its subprocesses are seen")
            await asyncio.sleep(fault.holds)
            if fault.way is Way.HOPELESS:
                await self._in_state(outcome.name, "quarantined")
                outcome.detected = time.time() - outcome.began
        finally:
            await mend()
        if fault.way is Way.HOPELESS and not await self._watch.post(f"/v1/bots/{outcome.name}/release"):
            outcome.violations.append("it can't be released")
        await until(lambda: self._deaths(outcome), f"{fault.deaths} deaths are told of")
        if fault.buried:
            await until(lambda: self._buried(outcome.name, counted, fault), "its dead letter is counted")
        gone = {before["pid"]} if fault.deaths or fault.name == "threads_left" else set()
        after = await until(lambda: self._back(outcome, gone), "it runs again")
        await until(lambda: self._all_answered(bot), "everything it was sent is answered")
        outcome.sound = time.time() - outcome.began
        await self._deaths(outcome)
        if fault.deaths or gone:
            outcome.recovered = await self._ready_after(outcome, after["incarnation"])
        if outcome.deaths and outcome.detected is None:
            outcome.detected = min(death["ended_at"] for death in outcome.deaths) - outcome.began
        judge(outcome, before, after)
        await self._look_for_leftovers(outcome, bot, mark, has_group)
        return await self._sight(outcome.name)

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
            await until(clean, "clean", CLEAN_WITHIN)
        except LateError:
            told = "; ".join(f"{pid} {command_line(pid)[:100]}" for pid in sorted(left)[:5])
            outcome.violations.append(f"{len(left)} processes are left of dead incarnations: {told}")

    # --- a server --------------------------------------------------------------------------------------------------

    async def _server(self, outcome: Outcome) -> None:
        name = outcome.fault.name.removesuffix("_kill")
        pid = (await until(lambda: self._service(name), f"{name} is known"))["pid"]
        outcome.began = time.time()
        with self._watch.harmed(bots_need_it=name != "control"):
            os.kill(pid, signal.SIGKILL)

            async def back() -> bool:
                found = await self._service(name)
                return found is not None and found["pid"] not in (None, pid) and found["state"] == "running"

            await until(back, f"{name} is back")
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

            await until(all_well, "all witnesses run")
            outcome.sound = (well_since or time.time()) - outcome.began

    async def _service(self, name: str) -> dict[str, Any] | None:
        body = await self._watch.get("/v1/status")
        found = [one for one in body["services"] if one["name"] == name] if body else []
        return found[0] if found else None

    # --- conditions ------------------------------------------------------------------------------------------------

    async def _sight(self, name: str) -> dict[str, Any] | None:
        body = await self._watch.get("/v1/status")
        found = [bot for bot in body["bots"] if bot["name"] == name and bot["pid"]] if body else []
        return found[0] if found else None

    async def _in_state(self, name: str, state: str) -> None:
        async def reached() -> bool:
            body = await self._watch.get("/v1/status") or {"bots": []}
            return any(bot["name"] == name and bot["state"] == state for bot in body["bots"])

        await until(reached, f"it is {state}")

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

        await until(known, "its readiness is recorded")
        return ready

    async def _marked(self, mark: str) -> set[int]:
        return await asyncio.to_thread(processes.marked, mark)
