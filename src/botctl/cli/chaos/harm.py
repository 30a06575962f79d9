"""Carries a scenario's steps out: faults of the emulators, signals to processes, floods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from botctl.cli.chaos.scenario import Scenario, Step
from botctl.cli.chaos.stage import Stage
from botctl.cli.chaos.timeline import Moment, moments
from botctl.cli.chaos.users import Users
from botctl.errors import BotctlError
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.faults.spec import FaultSpec

APPEARS_WITHIN = 30.0
"""Seconds in which what is to be killed must be there."""
_POLL = 0.02


@dataclass(slots=True)
class Done:
    """A step as it was done; times in seconds since the epoch."""

    place: int
    label: str
    began: float
    ended: float
    times: int = 1
    failed: str = ""


class Harm:
    """Harms one stage; `done` is what was done so far."""

    def __init__(self, stage: Stage, users: Users, scenario: Scenario, tell: Callable[[str], None]) -> None:
        self.done: list[Done] = []
        self._stage = stage
        self._users = users
        self._scenario = scenario
        self._tell = tell
        self._dice = random.Random(scenario.seed)
        self._telegram = SandboxClient(stage.sandbox.telegram)
        self._completion = SandboxClient(stage.sandbox.completion)
        self._faults: dict[int, int] = {}
        self._stopped: dict[int, list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """The whole timeline, from now to its last moment; what takes time goes on beside what comes next."""
        began = time.monotonic()
        for moment in moments(self._scenario):
            await asyncio.sleep(max(0.0, began + moment.at - time.monotonic()))
            task = asyncio.create_task(self._perform(moment))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for what has been begun, and take back what still lasts."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._telegram.clear_faults()
        await self._completion.clear_faults()
        for pids in self._stopped.values():
            _signal_all(pids, signal.SIGCONT)

    async def close(self) -> None:
        """Close the connections; what is stopped goes on."""
        for task in list(self._tasks):
            task.cancel()
        for pids in self._stopped.values():
            _signal_all(pids, signal.SIGCONT)
        await self._telegram.close()
        await self._completion.close()

    async def kill(self, name: str) -> None:
        """KILL a bot, a server, `control`; `bot` is any bot. The supervisor is started again. Raises BotctlError."""
        if name == "supervisor":
            await asyncio.to_thread(self._stage.kill_daemon)
            await asyncio.to_thread(self._stage.start_daemon)
            return
        os.kill(await self._pid(self._any(name)), signal.SIGKILL)

    async def _perform(self, moment: Moment) -> None:
        step, now = moment.step, time.time()
        entry = next((one for one in self.done if one.place == moment.place), None)
        if moment.ends:
            if entry is not None:
                await self._try(self._take_back(moment.place, step), entry, step)
                entry.ended = time.time()
            return
        if entry is None:
            entry = Done(moment.place, step.label, now, now)
            self.done.append(entry)
        else:
            entry.times += 1
        self._tell(f"{moment.at:6.1f} s  {step.label}")
        await self._try(self._do(moment.place, step), entry, step)
        entry.ended = max(entry.ended, time.time() if step.lasts is None or step.every is not None else entry.ended)

    async def _try(self, work: Coroutine[Any, Any, None], entry: Done, step: Step) -> None:
        """Whatever goes wrong: harm that was not done proves nothing, and the report has to say so."""
        try:
            await work
        except Exception as error:
            entry.failed = str(error) or type(error).__name__
            self._tell(f"{'':10}{step.label}: {entry.failed}")

    async def _do(self, place: int, step: Step) -> None:
        if step.telegram is not None:
            about = {"bot_id": self._stage.bots[step.bot]} if step.bot else {}
            self._faults[place] = await _inject(self._telegram, step.telegram, step, **about)
        elif step.completion is not None:
            self._faults[place] = await _inject(self._completion, step.completion, step)
        elif step.limits is not None:
            await self._telegram.set_limits(**step.limits)
        elif step.kill is not None:
            await self.kill(step.kill)
        elif step.stop is not None:
            pid = await self._pid(self._any(step.stop))
            os.kill(pid, signal.SIGSTOP)
            self._stopped[place] = [pid]
        elif step.restart is not None:
            await asyncio.to_thread(self._stage.restart, self._any(step.restart))
        elif step.flood is not None:
            bot_id = self._stage.bots.get(step.flood.bot) or next(iter(self._stage.bots.values()))
            await self._users.flood(bot_id, step.flood.messages, step.flood.text, step.flood.expects)

    async def _take_back(self, place: int, step: Step) -> None:
        if step.telegram is not None and place in self._faults:
            await self._telegram.clear_faults(self._faults.pop(place))
        elif step.completion is not None and place in self._faults:
            await self._completion.clear_faults(self._faults.pop(place))
        elif step.limits is not None:
            await self._telegram.set_limits(**{"flood": "off", **self._scenario.limits})
        elif step.stop is not None:
            _signal_all(self._stopped.pop(place, []), signal.SIGCONT)

    def _any(self, name: str) -> str:
        return self._dice.choice(sorted(self._stage.bots)) if name == "bot" else name

    async def _pid(self, name: str) -> int:
        deadline = time.monotonic() + APPEARS_WITHIN
        while (pid := await asyncio.to_thread(self._stage.pid_of, name)) is None:
            if time.monotonic() > deadline:
                raise BotctlError(f"there is no process of {name}")
            await asyncio.sleep(_POLL)
        return pid


async def _inject(client: SandboxClient, spec: FaultSpec, step: Step, **about: int) -> int:
    """The fault as the step means it: while it lasts, for every call that it fits unless `times` is given."""
    fields = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if step.lasts is not None and "times" not in spec.model_fields_set:
        fields["times"] = None
    return await client.inject_fault(**{"method": spec.method, **fields, **about})


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
