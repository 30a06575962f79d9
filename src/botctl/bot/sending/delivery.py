"""Delivers what was committed for a chat until each part of it has an outcome, also past a fault of ours.

A part whose delivery breaks (the database refuses what Telegram has answered, say) is tried again where it stands, so
that nothing of its chat overtakes it; what goes on breaking is given up, with an error, so that the chat goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.faults import brief
from botctl.bot.sending.send_states import SendStates
from botctl.bot.sending.sender import Outgoing, Sender
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sending.delivery")

PAUSES = (1.0, 5.0)
"""Seconds before a part that broke is tried again; when they are used up it is given up."""


class Delivery:
    """`repeats` says of a method whether a call that may have been carried out is made again."""

    def __init__(
        self,
        database: Database,
        sends: Sends,
        states: SendStates,
        sender: Sender,
        *,
        repeats: Callable[[str], bool],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._database = database
        self._sends = sends
        self._states = states
        self._sender = sender
        self._repeats = repeats
        self._pauses = pauses

    async def deliver(self, parts: Sequence[Outgoing]) -> None:
        """Deliver parts in order. Raises only what the journal itself raises; they are left as it has them then."""
        breaks: Counter[tuple[str, int]] = Counter()
        while parts:
            try:
                await self._sender.deliver(parts)
            except MemoryError:
                raise
            except Exception as error:
                parts = await self._after(error, await self._open(parts), breaks)
            else:
                return

    async def _after(self, error: Exception, parts: list[Outgoing], breaks: Counter[tuple[str, int]]) -> list[Outgoing]:
        """What is to be delivered yet."""
        if not parts:
            _log.error("delivered, though something broke", error=brief(error), exc_info=error)
            return []
        first, *rest = parts
        row, reason = first.row, f"broke: {brief(error)}"
        breaks[row.cause, row.n] += 1
        if row.state == "sending":
            again = self._repeats(row.method)
            await self._states.hidden(row.cause, row.n, reason, again=again)
            if not again:
                return rest
            row = dataclasses.replace(row, state="planned", uncertain=row.uncertain + 1)
        tried = breaks[row.cause, row.n]
        if tried > len(self._pauses):
            await self._states.failed(row.cause, row.n, reason)
            _log.critical("a part of an answer is given up", cause=row.cause, n=row.n, exc_info=error)
            return rest
        _log.error("a delivery broke; trying again", cause=row.cause, n=row.n, exc_info=error)
        await asyncio.sleep(self._pauses[tried - 1])
        return [dataclasses.replace(first, row=row), *rest]

    async def _open(self, parts: Sequence[Outgoing]) -> list[Outgoing]:
        """Those that have no outcome, each as the journal has it now."""
        causes = list(dict.fromkeys(part.row.cause for part in parts))

        async def read(connection: AsyncConnection) -> list[SendRow]:
            return [row for cause in causes for row in await self._sends.of_cause(connection, cause)]

        now = {(row.cause, row.n): row for row in await self._database.transaction(read)}
        found = [(part, now.get((part.row.cause, part.row.n))) for part in parts]
        return [
            dataclasses.replace(part, row=dataclasses.replace(part.row, state=row.state, uncertain=row.uncertain))
            for part, row in found
            if row is not None and row.state in ("planned", "sending")
        ]
