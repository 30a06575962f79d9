"""Deferred sends: what was committed with an answer is delivered part by part, in order, until Telegram has it.

A part is marked `sending` before its call. Never gives a part up but when Telegram refuses it, or when it may have
arrived and the bot's `on_uncertain` says skip.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from telegram.error import BadRequest, ChatMigrated, NetworkError, RetryAfter, TelegramError

from botctl.bot.bot_api import JournaledBot
from botctl.bot.flood import Flood
from botctl.bot.journal import seconds_of
from botctl.bot.journal_rules import describe_error
from botctl.bot.send_states import SendStates
from botctl.bot.sent import SentRecorder
from botctl.bot.transport import OutcomeUnknownError
from botctl.bus.backoff import Backoff
from botctl.storage.conversations import StoredMessage
from botctl.storage.sends import SendRow

_log = structlog.get_logger("botctl.bot.sender")


@dataclass(frozen=True)
class Outgoing:
    """One part of an answer: its row in the journal and the message it is."""

    row: SendRow
    message: StoredMessage


class Sender:
    """Delivers the parts of one answer after another; several answers of different chats at the same time."""

    def __init__(
        self,
        bot: JournaledBot,
        states: SendStates,
        recorder: SentRecorder,
        flood: Flood,
        *,
        resend: bool,
        clock: Callable[[], float],
    ) -> None:
        self._bot = bot
        self._states = states
        self._recorder = recorder
        self._flood = flood
        self._resend = resend
        self._clock = clock

    def may_send_now(self, chat_id: int) -> bool:
        """Whether a part may be marked `sending` already when it is planned."""
        return self._flood.wait(chat_id, self._clock()) <= 0

    async def deliver(self, parts: Sequence[Outgoing]) -> None:
        """Deliver the parts of one cause in their order."""
        begun = bool(parts) and parts[0].row.state == "sending"
        for index, part in enumerate(parts):
            following = index + 1 < len(parts) and parts[index + 1].row.n == part.row.n + 1
            begun = await self._deliver(part, begun=begun, begin_next=following)

    async def resume(self, parts: Sequence[Outgoing]) -> None:
        """Deliver what an earlier process left. A part it had begun may have arrived: `on_uncertain` decides."""
        for part in parts:
            begun = False
            if part.row.state == "sending":
                if not self._resend:
                    await self._skip(part.row, "the process ended during the call")
                    continue
                await self._states.begin(part.row.cause, part.row.n, uncertain=True)
                begun = True
            await self._deliver(part, begun=begun, begin_next=False)

    async def _deliver(self, part: Outgoing, *, begun: bool, begin_next: bool) -> bool:
        """Returns whether the next part has been begun with this one's commit."""
        row = part.row
        backoff = Backoff(first=0.2, limit=30.0)
        while True:
            if (wait := self._flood.wait(row.chat_id, self._clock())) > 0:
                if begun:
                    await self._states.unbegin(row.cause, row.n)
                    begun = False
                await asyncio.sleep(wait)
                continue
            if not begun:
                await self._states.begin(row.cause, row.n, uncertain=False)
                begun = True
            try:
                result = await self._bot.perform(row.method, row.payload)
            except RetryAfter as error:
                _log.warning("telegram asks to wait", chat_id=row.chat_id, retry_after=seconds_of(error))
                self._flood.refused(row.chat_id, seconds_of(error), self._clock())
            except ChatMigrated as error:
                row = dataclasses.replace(row, payload={**row.payload, "chat_id": error.new_chat_id})
            except OutcomeUnknownError as error:
                if not self._resend:
                    await self._skip(row, describe_error(error))
                    return False
                _log.warning("a send's outcome is unknown; it is made again", cause=row.cause, n=row.n)
                await asyncio.sleep(backoff.next())
                await self._states.begin(row.cause, row.n, uncertain=True)
            except BadRequest as error:
                if "entit" not in str(error).lower() or "entities" not in row.payload:
                    await self._fail(row, error)
                    return False
                # Rather a plain answer than none.
                _log.warning("entities refused; sending the text without them", cause=row.cause, n=row.n)
                row = dataclasses.replace(row, payload={k: v for k, v in row.payload.items() if k != "entities"})
            except NetworkError as error:
                delay = backoff.next()
                _log.warning("not sent; trying again", cause=row.cause, n=row.n, error=str(error), retry_in=delay)
                await self._states.unbegin(row.cause, row.n)
                begun = False
                await asyncio.sleep(delay)
            except TelegramError as error:
                await self._fail(row, error)
                return False
            else:
                next_begun = begin_next and self._flood.wait(row.chat_id, self._clock()) <= 0
                await self._recorder.deferred(row, result, part.message, begin_next=next_begun)
                return next_begun

    async def _skip(self, row: SendRow, reason: str) -> None:
        _log.warning("a send may have arrived; it is not repeated", cause=row.cause, n=row.n)
        await self._states.skip(row.cause, row.n, reason)

    async def _fail(self, row: SendRow, error: TelegramError) -> None:
        text = await self._states.refuse(row.cause, row.n, row.method, error)
        _log.error("telegram refuses a message", cause=row.cause, n=row.n, error=text)


def send_row(cause: str, n: int, trace_id: str, payload: dict[str, Any], *, begun: bool) -> SendRow:
    """The journal's row of one deferred message."""
    state = "sending" if begun else "planned"
    return SendRow(cause, n, "deferred", "sendMessage", payload["chat_id"], payload, state, trace_id=trace_id)
