"""Does what the plan says: kills bots at their moments, makes servers, Telegram and the model fail. Judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from botctl.cli.chaos.processes import command_line, descendants, process_gone
from botctl.sandbox.client import SandboxClient
from chaos import processes
from chaos.kills.plan import Fault, Kill, Moment, Service
from chaos.waiting import LateError, until
from chaos.watch import Watch
from support.stack import Stack

AIM_WITHIN = 4.0
"""Seconds for which a kill waits for a send to be under way; then it takes place at any moment."""

BACK_WITHIN = 60.0
ENDED_WITHIN = 15.0
"""Seconds after the supervisor's death within which no process of its own may be left."""

SIGNALS = {"postgres": signal.SIGINT, "valkey": signal.SIGTERM}


@dataclass
class Phase:
    """One fault as it took place. Seconds since the epoch; `ended`: all bots run again, and the rules are over."""

    name: str
    began: float
    ended: float = 0.0


@dataclass
class Done:
    """What was done so far."""

    kills: Counter[Moment] = field(default_factory=Counter)
    with_supervisor: int = 0
    """Bots that died with their supervisor."""
    phases: list[Phase] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Harm:
    """On one stack; `names` and `ids` are those of the bots, by index."""

    def __init__(self, stack: Stack, watch: Watch, names: list[str], ids: list[int]) -> None:
        self.done = Done()
        self._stack = stack
        self._watch = watch
        self._names = names
        self._ids = ids
        self._telegram = stack.sandbox()
        self._completion = SandboxClient(stack.urls["completion"])
        self._victims: set[int] = set()
        self._supervised = asyncio.Event()
        self._supervised.set()

    async def close(self) -> None:
        """Take all faults back."""
        for client in (self._telegram, self._completion):
            await client.clear_faults()
            await client.close()

    # --- bots ------------------------------------------------------------------------------------------------------

    async def kill(self, kill: Kill) -> None:
        """One kill, as soon as its bot has a process that nobody else is about to kill."""
        while not await self._try(kill):
            pass

    async def _try(self, kill: Kill) -> bool:
        """Whether it was this one who has killed the bot."""
        deadline = time.monotonic() + BACK_WITHIN
        bot = kill.bot
        while True:
            await self._supervised.wait()
            pid = 0 if bot in self._victims else await asyncio.to_thread(self._pid, bot)
            if pid:
                break
            bot = (bot + 1) % len(self._names)
            if bot == kill.bot:
                await asyncio.sleep(0.05)
            if time.monotonic() > deadline:
                raise LateError(f"not within {BACK_WITHIN:g} s: a bot to be killed")
        self._victims.add(bot)
        try:
            if kill.moment is Moment.RANDOM:
                return self._strike(pid, Moment.RANDOM)
            return await self._aim(bot, pid, kill.moment)
        finally:
            self._victims.discard(bot)

    async def _aim(self, bot: int, pid: int, moment: Moment) -> bool:
        """Kill it while Telegram holds a send of it."""
        when = "after" if moment is Moment.AFTER else "before"
        fault = await self._telegram.inject_fault("sendMessage", bot_id=self._ids[bot], hold=True, when=when, times=1)
        try:
            held = await self._telegram.held(fault, 1, AIM_WITHIN)
            struck = self._strike(pid, moment if held else Moment.RANDOM)
            if struck and moment is Moment.LATE:
                await asyncio.sleep(0.5)  # it arrives when the next process is at work
        finally:
            if moment is not Moment.LATE:
                await self._telegram.release(fault, drop=True)
            await self._telegram.clear_faults(fault)
        return struck

    def _strike(self, pid: int, moment: Moment) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.done.kills[moment] += 1
        return True

    def _pid(self, bot: int) -> int:
        with contextlib.suppress(OSError, ValueError):
            found = processes.titled(self._stack.daemon_pid, f"botctl: bot {self._names[bot]} ")
            return min(found, default=0)
        return 0

    # --- everything else -------------------------------------------------------------------------------------------

    async def fail(self, fault: Fault) -> None:
        """Bring a fault about, and wait until all bots run again."""
        phase = Phase(fault.name, time.time())
        self.done.phases.append(phase)
        try:
            if fault.service == "supervisor":
                await self._supervisor()
            elif fault.service:
                await self._service(fault)
            else:
                await self._rules(fault)
            await until(self._all_run, f"all bots run after: {fault.name}", BACK_WITHIN)
        except LateError as error:
            self.done.violations.append(str(error))
        phase.ended = time.time()

    async def _rules(self, fault: Fault) -> None:
        clients = {"telegram": self._telegram, "completion": self._completion}
        ids = [
            (clients[emulator], await clients[emulator].inject_fault(method, until=fault.lasts, **fields))
            for emulator, method, fields in fault.rules
        ]
        await asyncio.sleep(fault.lasts)
        for client, fault_id in ids:
            await client.clear_faults(fault_id)

    async def _service(self, fault: Fault) -> None:
        if fault.how is Service.FLUSH:
            async with self._stack.redis() as valkey:
                await valkey.flushall()
            await asyncio.sleep(fault.lasts)
            return
        service = await until(lambda: self._status_of(fault.service), f"{fault.service} is known")
        if fault.how is Service.LOSE:
            await asyncio.to_thread(shutil.rmtree, self._stack.data / "valkey" / "data" / "appendonlydir")
        os.kill(service["pid"], SIGNALS[fault.service] if fault.how is Service.STOP else signal.SIGKILL)

        async def back() -> bool:
            found = await self._status_of(fault.service)
            return found is not None and found["pid"] not in (None, service["pid"]) and found["state"] == "running"

        await until(back, f"{fault.service} is back", BACK_WITHIN)

    async def _supervisor(self) -> None:
        self._supervised.clear()
        try:
            daemon = self._stack.daemon_pid
            family = await asyncio.to_thread(descendants, daemon)
            bots = sum(
                command_line(pid).startswith(tuple(f"botctl: bot {name} " for name in self._names)) for pid in family
            )
            os.kill(daemon, signal.SIGKILL)
            self.done.with_supervisor += bots

            async def gone() -> bool:
                return all(process_gone(pid) for pid in (daemon, *family))

            await until(gone, "nothing is left of a killed supervisor", ENDED_WITHIN)
            await asyncio.to_thread(self._stack.start)
        finally:
            self._supervised.set()

    async def _status_of(self, name: str) -> dict[str, Any] | None:
        body = await self._watch.get("/v1/status")
        found = [one for one in body["services"] if one["name"] == name and one["pid"]] if body else []
        return found[0] if found else None

    async def _all_run(self) -> bool:
        body = await self._watch.get("/v1/status")
        if body is None:
            return False
        for bot in body["bots"]:
            if bot["state"] == "quarantined":
                self.done.violations.append(f"{bot['name']} was quarantined: {bot['reason']}")
                await self._watch.post(f"/v1/bots/{bot['name']}/release")
        # One that was killed this moment is on its way: that is no fault's doing.
        away = sum(bot["state"] not in ("running", "degraded") for bot in body["bots"])
        return away <= max(1, len(self._names) // 4)
