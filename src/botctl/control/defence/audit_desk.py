"""What the API asks about the audit log, done; and what operators command, written into it.

A command never waits for its entry: while the database is away, entries wait here, as many as there is room for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.defence.sealer import Sealer
from botctl.control.pulse import ANSWER, Pulse
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError, database_reason
from botctl.control.views import AuditBody, AuditEntryView, AuditReportBody, AuditSealLine, FindingView, View
from botctl.errors import NoSuchBotError
from botctl.storage import audit, audit_chain, registry
from botctl.storage.audit import AuditEntry, Search
from botctl.storage.audit_chain import Report
from botctl.storage.audit_head import NAME

_log = structlog.get_logger("botctl.control.audit")

DAYS = 90
"""How long entries are kept unless the operator sets `audit_retention`."""

ROOM = 1000
FOLLOW_EVERY = 0.5
_RETRY = 2.0


class AuditDesk:
    """`names` gives the bots of the fleet by bot_id."""

    def __init__(
        self, engine: AsyncEngine, data_dir: Path, options: Mapping[str, Any], names: Callable[[], Mapping[int, str]]
    ) -> None:
        self.sealer = Sealer(engine, data_dir / NAME, int(options.get("audit_retention", DAYS)))
        self._engine = engine
        self._names = names
        self._pulse = Pulse(engine)
        self._waiting: deque[tuple[int, str, str, str, dict[str, Any]]] = deque(maxlen=ROOM)
        self._noted = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """What is wrong with the audit log."""
        return self.sealer.problem

    async def run(self) -> None:
        """Seal, and write down commands, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sealer.run())
            group.create_task(self._write_for_ever())

    def note(self, operator: str, action: str, entity: str, name: str | None, after: dict[str, Any]) -> None:
        """Write down what an operator has commanded, soon. `name` is the bot it is about."""
        bot_id = next((number for number, known in self._names().items() if known == name), 0) if name else 0
        _log.info("an operator commands", operator=operator, action=action, entity=entity, **after)
        if len(self._waiting) == ROOM:
            _log.error("an entry of the audit log is lost: the database has been away for too long")
        self._waiting.append((bot_id, operator, action, entity, after | {"asked_at": round(time.time(), 3)}))
        self._noted.set()

    async def write(self) -> None:
        """Write down what waits. Raises what the database raises."""
        while self._waiting:
            bot_id, operator, action, entity, after = first = self._waiting[0]
            async with self._engine.begin() as connection:
                await audit.record_operator(connection, bot_id, operator, action, entity, after)
            if self._waiting and self._waiting[0] is first:
                self._waiting.popleft()

    async def _write_for_ever(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            try:
                await self.write()
            except DATABASE_TROUBLE as error:
                _log.warning("what operators command waits to be written", reason=database_reason(error))
                await asyncio.sleep(_RETRY)
                self._noted.set()

    async def search(self, bot: str | None, wanted: dict[str, Any], limit: int) -> AuditBody:
        """The latest entries that match, newest first. Raises NoSuchBotError."""
        return await self._pulse.within(self._found(bot, wanted, limit))

    async def _found(self, bot: str | None, wanted: dict[str, Any], limit: int) -> AuditBody:
        try:
            async with self._engine.connect() as connection:
                search = await self._search(connection, bot, wanted)
                found = await audit.search(connection, search, limit)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        names = self._names()
        return AuditBody(entries=[_view(entry, names) for entry in found])

    async def follow(self, bot: str | None, wanted: dict[str, Any]) -> AsyncIterator[View]:
        """Entries as they come, for ever. Raises NoSuchBotError before the first; ends when the database goes away."""
        await self._pulse.feel()
        try:
            async with self._engine.connect() as connection:
                search = await self._search(connection, bot, wanted)
                position = await audit.closed_until(connection)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error

        async def entries() -> AsyncIterator[View]:
            at = position
            while True:
                try:
                    async with asyncio.timeout(4 * ANSWER), self._engine.connect() as connection:
                        closed = await audit.closed_until(connection)
                        found = await audit.between(connection, search, at, closed) if closed > at else []
                except DATABASE_TROUBLE as error:
                    _log.warning("following the audit log ended", reason=database_reason(error))
                    return
                at = max(at, closed)
                names = self._names()
                for entry in found:
                    yield _view(entry, names)
                await asyncio.sleep(FOLLOW_EVERY)

        return entries()

    async def verify(self) -> AsyncIterator[View]:
        """Recompute the chain: the digest of every seal, to compare with what was published, and last the report."""
        try:
            report, known = await self._pulse.within(verify_with(self._engine))
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error

        async def lines() -> AsyncIterator[View]:
            for seal, digest in known.items():
                yield AuditSealLine(seal=seal, digest=digest.hex())
            yield report_body(report)

        return lines()

    async def _search(self, connection: AsyncConnection, bot: str | None, wanted: dict[str, Any]) -> Search:
        if bot is None:
            return Search(**wanted)
        bot_id = next((number for number, name in self._names().items() if name == bot), None)
        if bot_id is None:
            bot_id = int(bot) if bot.isdecimal() else await registry.find_bot(connection, bot)
        if bot_id is None:
            raise NoSuchBotError(f"no bot is called {bot!r}", hint="A bot that was removed is found by its id.")
        return Search(bot_id=bot_id, **wanted)


async def verify_with(engine: AsyncEngine) -> tuple[Report, dict[int, bytes]]:
    """Verify in one view of the database, whatever is sealed meanwhile."""
    async with engine.connect() as connection:
        stable = await connection.execution_options(isolation_level="REPEATABLE READ")
        return await audit_chain.verify(stable)


def report_body(report: Report) -> AuditReportBody:
    """A report as the API tells it."""
    return AuditReportBody(
        seals=report.seals,
        entries=report.entries,
        unsealed=report.unsealed,
        first_seal=report.first_seal,
        last_seal=report.last_seal,
        cutoff=None if report.cutoff is None else float(report.cutoff),
        unnamed=report.unnamed,
        findings=[
            FindingView(fault=one.fault.value, text=one.text, seal=one.seal, audit_id=one.audit_id)
            for one in report.findings
        ],
    )


def _view(entry: AuditEntry, names: Mapping[int, str]) -> AuditEntryView:
    return AuditEntryView(
        id=entry.audit_id,
        at=entry.at if math.isfinite(entry.at) else 0.0,  # only a forged one has no time
        bot_id=entry.bot_id,
        bot=names.get(entry.bot_id),
        actor=entry.actor,
        action=entry.action,
        entity=entry.entity,
        before=entry.before,
        after=entry.after,
    )
