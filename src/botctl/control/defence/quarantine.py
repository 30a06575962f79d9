"""Shuts a bot away and lets it back: process, database login and sessions, Redis user. Each within a second.

The three are done side by side, so that one server that is away delays nothing else; what could not be done is tried
again until it is done, by the next `control` too: what the database doesn't have stands in a file and is in the
supervisor's sight. A bot that is shut away has no valid credentials, so a release makes new ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.client import AWAY
from botctl.control.defence.quarantine_file import Pending, read_pending, write_pending
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ports import SupervisorPort
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.errors import BotctlError
from botctl.storage import logins, quarantines
from botctl.storage.quarantines import Quarantined

_log = structlog.get_logger("botctl.control.defence.quarantine")

_AGAIN_AFTER = 0.5


class Quarantine:
    """`keeper.shut` says who is shut away; `file` has those that the database doesn't know yet, None keeps none.

    `now` gives seconds since the epoch. `problem` is None while nothing can be forgotten.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        keeper: FleetKeeper,
        supervisor: SupervisorPort,
        now: Callable[[], float] = time.time,
        *,
        file: Path | None = None,
    ) -> None:
        self.problem: str | None = None
        self._file = file
        self._pending: dict[int, Pending] = {}
        self._filing = asyncio.Lock()
        self._unregistered: set[int] = set()
        """Bots that this database has no row for; the file keeps them until it has."""
        self._engine = engine
        self._keeper = keeper
        self._supervisor = supervisor
        self._now = now
        self._open: dict[int, str] = {}
        """Names of those whose quarantine isn't complete."""
        self._unconfirmed: set[int] = set()
        """Those whose login a change that was under way may have opened again."""
        self._taken_over = False
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of each bot: it is being shut away or let back, never both."""
        self._wake = asyncio.Event()

    async def shut(self, bot_id: int, name: str, *, by: str, reason: str, seconds: float = 0.0) -> bool:
        """Shut a bot away, for a time or until it is released; whether it is done already.

        A quarantine without an end is never shortened.
        """
        before = self._keeper.shut.get(bot_id)
        now = self._now()
        if before is None or (before.until is not None and not seconds):
            self._keeper.shut[bot_id] = Quarantined(now, by, reason[:500], now + seconds if seconds else None)
            _log.warning("a bot is shut away", bot=name, by=by, reason=reason[:500], seconds=seconds or None)
        self._open[bot_id] = name
        await self._complete(bot_id, name)
        self._wake.set()
        return bot_id not in self._open

    async def adopt(self) -> None:
        """Take over whom an earlier `control` has shut away, and the database may not know of. Before anything else."""
        if self._file is not None:
            try:
                self._pending = await asyncio.to_thread(read_pending, self._file)
            except (OSError, ValueError) as error:
                self.problem = f"quarantine: {self._file} can't be read: {error}"
                _log.error("quarantines that the database doesn't have can't be read", file=str(self._file))
        for bot_id, one in self._pending.items():
            self._keeper.shut[bot_id] = one.told
            self._open[bot_id] = one.name
            _log.warning("a bot stays shut away; the database did not know yet", bot=one.name, reason=one.told.reason)
        while True:
            try:
                sight = await self._supervisor.sight()
            except TimeoutError:
                _log.warning("the supervisor does not answer; it may hold bots that are shut away")
                continue
            break
        for bot in sight.bots:
            if bot.shut_away and bot.bot_id not in self._keeper.shut:
                told = Quarantined(bot.since or self._now(), "operator", bot.reason[:500])
                self._keeper.presume_shut(bot.bot_id, told)  # completed as soon as the registry was read

    async def run(self) -> None:
        """Complete what could not be completed, and let those back whose time is over; until cancelled."""
        while True:
            await self._take_over()
            for bot_id, name in list(self._open.items()):
                await self._complete(bot_id, name)
            await self._confirm()
            await self._release_due()
            self._wake.clear()
            try:
                async with asyncio.timeout(_AGAIN_AFTER):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def release(self, bot_id: int, name: str) -> None:
        """Let a bot back, with new credentials. Raises DatabaseAwayError: it stays shut away then."""
        async with self._locks[bot_id]:
            await self._keeper.readmit(bot_id)  # until then it is not given up that it is to be shut away
            self._open.pop(bot_id, None)
            self._unconfirmed.discard(bot_id)
            await self._forget(bot_id)
        _log.info("a bot is let back", bot=name)

    async def _take_over(self) -> None:
        """What an earlier `control` may have left half done, and what a restart of the daemon has forgotten."""
        if not self._taken_over and await self._keeper.settled():
            self._taken_over = True
            for bot_id in self._keeper.shut:
                if (bot := self._keeper.by_id(bot_id)) is not None:
                    self._open[bot_id] = bot.name

    async def _confirm(self) -> None:
        for bot_id in [one for one in self._unconfirmed if one not in self._open]:
            await self._keeper.settled()
            bot = self._keeper.by_id(bot_id)
            try:
                async with self._engine.connect() as connection:
                    opened = await quarantines.can_log_in(connection, bot_id)
            except DATABASE_TROUBLE:
                return
            self._unconfirmed.discard(bot_id)
            if opened and bot_id in self._keeper.shut and bot is not None:
                self._open[bot_id] = bot.name
                self._wake.set()

    async def _release_due(self) -> None:
        now = self._now()
        for bot_id, told in list(self._keeper.shut.items()):
            bot = self._keeper.by_id(bot_id)
            if told.until is None or told.until > now or bot is None:
                continue
            try:
                await self.release(bot_id, bot.name)
                await self._supervisor.command("release", bot.name, "its time is over")
            except (BotctlError, TimeoutError) as error:
                _log.warning("a bot whose time is over can't be let back yet", bot=bot.name, error=str(error))

    async def _complete(self, bot_id: int, name: str) -> None:
        async with self._locks[bot_id]:
            await self._complete_it(bot_id, name)

    async def _complete_it(self, bot_id: int, name: str) -> None:
        told = self._keeper.shut.get(bot_id)
        if told is None:
            self._open.pop(bot_id, None)
            return
        # In a file too, before anybody is answered, side by side with the rest: the database may be what is away.
        *done, _ = await asyncio.gather(
            self._end_process(name, told.reason),
            self._shut_database(bot_id, told),
            self._shut_redis(bot_id),
            self._note(bot_id, Pending(name, told)),
        )
        if done[1] and bot_id not in self._unregistered:
            await self._forget(bot_id)
        if all(done):
            self._open.pop(bot_id, None)
            self._unconfirmed.add(bot_id)

    async def _end_process(self, name: str, reason: str) -> bool:
        try:
            await self._supervisor.command("quarantine", name, reason)
        except TimeoutError:
            _log.error("the supervisor does not answer; a bot's process can't be ended", bot=name)
            return False
        return True  # refused: it has no such bot, and so no process

    async def _shut_database(self, bot_id: int, told: Quarantined) -> bool:
        try:
            async with asyncio.timeout(3.0):
                async with self._engine.begin() as connection:
                    known = await quarantines.save(connection, bot_id, told)
                    await quarantines.shut_out(connection, bot_id)
                async with self._engine.begin() as connection:
                    await logins.end_sessions(connection, bot_id)
        except (*DATABASE_TROUBLE, TimeoutError) as error:
            _log.error("a bot's login can't be shut yet", bot_id=bot_id, reason=database_reason(error))
            return False
        if not known:
            self._unregistered.add(bot_id)
            _log.warning("a bot that is shut away is not in the registry", bot_id=bot_id)
        return True

    async def _note(self, bot_id: int, pending: Pending) -> None:
        if self._pending.get(bot_id) != pending:
            self._pending[bot_id] = pending
            await self._write()

    async def _forget(self, bot_id: int) -> None:
        """The database has it, or nobody has to."""
        if self._pending.pop(bot_id, None) is not None:
            await self._write()

    async def _write(self) -> None:
        if self._file is None:
            return
        async with self._filing:
            try:
                await asyncio.to_thread(write_pending, self._file, dict(self._pending))
            except OSError as error:
                self.problem = f"quarantine: {self._file} can't be written: {error.strerror or error}"
                _log.error("a quarantine that the database lacks would be lost with control", reason=self.problem)
            else:
                self.problem = None

    async def _shut_redis(self, bot_id: int) -> bool:
        try:
            async with asyncio.timeout(3.0):
                await self._keeper.bar(bot_id)
        except (*AWAY, TimeoutError) as error:
            _log.error("a bot's Redis user can't be dropped yet", bot_id=bot_id, error=type(error).__name__)
            return False
        return True
