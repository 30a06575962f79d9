"""What becomes of a send's row before and after its call: begun, not begun after all, of unknown outcome, failed.

Handlers' calls and deferred answers go through it alike; that a send was made is `SentRecorder`'s. Each step is one
statement that names the state it changes, so that it may be repeated when its own outcome was lost.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from botctl.bot.database import Database
from botctl.bot.vitals.health import Health
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sends")


class SendStates:
    """Rows are named by their cause and number. Waits while the database is away."""

    def __init__(self, database: Database, sends: Sends, health: Health) -> None:
        self._database = database
        self._sends = sends
        self._health = health

    def entry(self, row: SendRow, *, known: bool) -> RowEntry:
        """A row as its call sees it; `known`: it is stored already."""
        return RowEntry(self, row, known=known)

    async def plan(self, row: SendRow) -> None:
        """A new row, in the state it says."""
        await self._database.statement(lambda connection: self._sends.plan(connection, [row]))

    async def begin(self, cause: str, n: int) -> None:
        """The call is about to be made."""
        await self._database.statement(lambda connection: self._sends.begin(connection, cause, n))

    async def unbegin(self, cause: str, n: int, *, wait: float | None = None) -> None:
        """The call has surely had no effect; `wait`: for so many seconds Telegram wants none."""
        await self._database.statement(lambda connection: self._sends.unbegin(connection, cause, n, wait=wait))

    async def hidden(self, cause: str, n: int, reason: str, *, again: bool) -> None:
        """The call may have had an effect; `again`: it will be made once more, else never."""
        outcome = "it is made again" if again else "it is not repeated"
        _log.warning(f"a send may have arrived; {outcome}", cause=cause, n=n, reason=reason)
        await self._database.statement(lambda connection: self._sends.hidden(connection, cause, n, reason, again=again))
        self._health.count("sends_uncertain")

    async def failed(self, cause: str, n: int, reason: str) -> None:
        """Telegram refuses the call for good, or it can't be made at all."""
        await self._database.statement(lambda connection: self._sends.failed(connection, cause, n, reason))


class Entry(Protocol):
    """What the journal has of one call, as the call sees it."""

    async def begin(self) -> None:
        """The call is about to be made."""

    async def unbegin(self, wait: float | None = None) -> None:
        """The call has surely had no effect; `wait`: for so many seconds Telegram wants none."""

    async def hidden(self, reason: str, *, again: bool) -> None:
        """The call may have had an effect; `again`: it will be made once more, else never."""

    async def failed(self, reason: str) -> None:
        """Telegram refuses the call."""


class RowEntry:
    """A row of the journal; one that is not `known` is stored when the call is about to be made."""

    def __init__(self, states: SendStates, row: SendRow, *, known: bool) -> None:
        self._states = states
        self._row = row
        self._known = known

    async def begin(self) -> None:
        """Planned or not there -> sending."""
        if self._known:
            await self._states.begin(self._row.cause, self._row.n)
        else:
            await self._states.plan(self._row)
            self._known = True

    async def unbegin(self, wait: float | None = None) -> None:
        """Sending -> planned."""
        await self._states.unbegin(self._row.cause, self._row.n, wait=wait)

    async def hidden(self, reason: str, *, again: bool) -> None:
        """Sending -> planned or skipped, and counted."""
        await self._states.hidden(self._row.cause, self._row.n, reason, again=again)

    async def failed(self, reason: str) -> None:
        """Sending -> failed."""
        await self._states.failed(self._row.cause, self._row.n, reason)


class Unrecorded:
    """Of a call that isn't journaled."""

    async def begin(self) -> None:
        """Nothing is recorded."""

    async def unbegin(self, wait: float | None = None) -> None:
        """Nothing is recorded."""

    async def hidden(self, reason: str, *, again: bool) -> None:
        """Nothing is recorded."""

    async def failed(self, reason: str) -> None:
        """Nothing is recorded."""
