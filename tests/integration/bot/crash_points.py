"""A bot in the test's own process that ends, as by KILL, at any chosen step between it, PostgreSQL and Telegram.

Each commit and each call to Telegram has two steps at which a process can end: right before it, and right after it
took effect, when nobody has seen the answer yet. From the crash on nothing of the incarnation gets through any more,
whatever its code tries while it is unwound.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
import pytest

import botctl.bot.assembly as assembly
from botctl.bot.database import Database
from botctl.bot.machine import BotMachine
from botctl.bot.secrets import Passwords
from botctl.bot.sending.transport import OutcomeUnknownError, Transport
from botctl.fleet.model import BotSpec
from botctl.handover import BotConfig
from botctl.observability.redaction import Redactor
from botctl.security.vault import Cipher

UNSEEN = ("getUpdates", "getMe", "getMyCommands", "setMyCommands", "deleteMyCommands")
"""Calls that change nothing anybody sees; a crash there is a crash before the next step that counts."""


class CrashError(BaseException):
    """The process is gone. No handler of ours may catch it, as none catches KILL."""


class Fuse:
    """Counts steps and blows at the one it was set to.

    `lost` are calls to Telegram whose answers are lost on the way, `unsure` commits whose outcome is: both are numbered
    from 0 and took effect.
    """

    def __init__(
        self, at: int | None = None, lost: frozenset[int] = frozenset(), unsure: frozenset[int] = frozenset()
    ) -> None:
        self.at = at
        self.steps: list[str] = []
        self._lost, self._sends = lost, 0
        self._unsure, self._commits = unsure, 0
        self.blown = asyncio.Event()

    def step(self, name: str) -> None:
        """The process comes by here, unless it ends here."""
        if self.blown.is_set():
            raise CrashError
        self.steps.append(name)
        if self.at is not None and len(self.steps) > self.at:
            self.blown.set()
            raise CrashError

    def check(self) -> None:
        """Nothing gets through once it has blown."""
        if self.blown.is_set():
            raise CrashError

    def loses_answer(self) -> bool:
        """Whether the answer of this send is lost though nothing has crashed."""
        self._sends += 1
        return self._sends - 1 in self._lost

    def hides_outcome(self) -> bool:
        """Whether nobody learns that this commit took place."""
        self._commits += 1
        return self._commits - 1 in self._unsure


class Incarnation:
    """One life of a bot: begins at once, and lasts until `kill`, which its fuse may have done before."""

    def __init__(self, config: BotConfig, spec: BotSpec, passwords: Passwords, fuse: Fuse, previous: str) -> None:
        self.fuse = fuse
        self.beats: list[dict[str, float]] = []
        self.counters: Counter[str] = Counter()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembly, "Database", _fused_database(fuse))
            patch.setattr(assembly, "Transport", _fused_transport(fuse))
            self.machine = BotMachine(
                config,
                spec,
                passwords,
                Cipher(config.bot_id),
                previous_failure=previous,
                on_ready=lambda: None,
                on_beat=self.beats.append,
                on_give_up=lambda updates: None,
            )
        self._before = asyncio.all_tasks()
        self._task = asyncio.create_task(self._run(), name="incarnation")

    async def _run(self) -> None:
        with suppress(CrashError):
            await self.machine.run()

    @property
    def uncertain(self) -> int:
        """Sends it has counted as uncertain."""
        return int(self.machine.health.counters.get("sends_uncertain", 0))

    async def kill(self) -> None:
        """The end: connections break, nothing is finished."""
        self.fuse.blown.set()
        tasks = asyncio.all_tasks() - self._before - {asyncio.current_task()}  # type: ignore[arg-type]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        parts = self.machine._parts
        for close in (parts.database.close, parts.transport.close, lambda: parts.bus.stop(0)):
            with suppress(CrashError):
                await close()


class Life:
    """A bot with a fixed identity, and all its incarnations."""

    def __init__(self, config: dict[str, Any], spec: dict[str, Any], database: str, redis: str, bot_id: int) -> None:
        self._spec = BotSpec.model_validate(spec)
        self._config = BotConfig(spec=msgspec.Raw(json.dumps(spec).encode()), bot_id=bot_id, **config)
        self._passwords = Passwords(Redactor())
        self._passwords.take(database=(database,), redis=(redis,))
        self.current: Incarnation | None = None
        self.uncertain = 0
        self.previous = ""

    def begin(self, fuse: Fuse) -> Incarnation:
        """A new incarnation, after the last one was killed."""
        self.current = Incarnation(self._config, self._spec, self._passwords, fuse, self.previous)
        return self.current

    async def end(self) -> None:
        """Kill the incarnation that there is."""
        if self.current is not None:
            await self.current.kill()
            self.uncertain += self.current.uncertain
            self.previous = "signal"
            self.current = None


def _fused_database(fuse: Fuse) -> type[Database]:
    class FusedDatabase(Database):
        async def first(self) -> None:
            fuse.check()
            await super().first()

        async def _repeat(self, run: Any, work: Any) -> Any:
            name = _name_of(work)
            if name.endswith("depth"):  # asked every few seconds, by the clock
                fuse.check()
                return await super()._repeat(run, work)

            async def run_hidden(work: Any) -> Any:
                result = await run(work)
                if fuse.hides_outcome():
                    raise ConnectionResetError("the connection breaks right after the commit")
                return result

            fuse.step(f"before {name}")
            result = await super()._repeat(run_hidden, work)
            fuse.step(f"after {name}")
            return result

    return FusedDatabase


def _fused_transport(fuse: Fuse) -> type[Transport]:
    class FusedTransport(Transport):
        async def request(self, method: str, url: str, *, data: Any = None, timeout: float = 30.0) -> tuple[int, bytes]:
            name = url.rpartition("/")[2]
            if name in UNSEEN:
                fuse.check()
                answer = await super().request(method, url, data=data, timeout=timeout)
                fuse.check()
                return answer
            fuse.step(f"before {name}")
            answer = await super().request(method, url, data=data, timeout=timeout)
            fuse.step(f"after {name}")
            if fuse.loses_answer():
                raise OutcomeUnknownError("the answer is lost")
            return answer

    return FusedTransport


def _name_of(work: Any) -> str:
    """Whose work it is, for reading: `Starter.begin`, `depth`."""
    return str(getattr(work, "__qualname__", work)).removesuffix(".<locals>.work").rpartition("Inbox.")[2]
