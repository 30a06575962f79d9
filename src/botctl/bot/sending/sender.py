"""Deferred sends: what was committed with an answer is delivered part by part, in order, until Telegram has it.

A part is marked `sending` before its call. Never gives a part up but when Telegram refuses it, when its chat can't be
reached, or when it may have arrived and the bot's `on_uncertain` says skip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from telegram.error import BadRequest, TelegramError

from botctl.bot.sending.bot_api import JournaledBot, moved
from botctl.bot.sending.calling import Answered, Call, Caller, Refused
from botctl.bot.sending.journal_rules import describe_error
from botctl.bot.sending.methods import NEVER_AGAIN, items_of
from botctl.bot.sending.send_states import SendStates
from botctl.bot.sending.sent import SentRecorder, place_of
from botctl.bot.sending.whereabouts import Whereabouts
from botctl.storage.conversations import StoredMessage
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sending.sender")


@dataclass(frozen=True)
class Outgoing:
    """One part of an answer: its row in the journal and the message it is, if it is one."""

    row: SendRow
    message: StoredMessage | None


class Sender:
    """Delivers the parts of one answer after another; several answers of different chats at the same time."""

    def __init__(
        self,
        bot: JournaledBot,
        states: SendStates,
        recorder: SentRecorder,
        caller: Caller,
        whereabouts: Whereabouts,
    ) -> None:
        self._bot = bot
        self._states = states
        self._recorder = recorder
        self._caller = caller
        self._whereabouts = whereabouts

    async def leave(self, connection: AsyncConnection, sends: Sends, cause: str | None, reason: str) -> int:
        """Count begun calls of a cause that is given up (None: of all dead letters) as of unknown outcome."""
        return await sends.leave(connection, cause, reason, again=self._caller.resend, never=NEVER_AGAIN)

    def take(self, row: SendRow) -> bool:
        """Whether a part may be marked `sending` already when it is planned; its slot is taken then."""
        return self._unreachable(row) is None and self._caller.take(_call(row))

    async def deliver(self, parts: Sequence[Outgoing]) -> None:
        """Deliver the parts of one cause in order. A first part that says `sending` has its slot, and no call yet."""
        begun = bool(parts) and parts[0].row.state == "sending"
        for index, part in enumerate(parts):
            following = parts[index + 1].row if index + 1 < len(parts) else None
            if following is not None and (following.cause, following.n) != (part.row.cause, part.row.n + 1):
                following = None
            begun = await self._deliver(part, begun=begun, following=following)

    async def _deliver(self, part: Outgoing, *, begun: bool, following: SendRow | None) -> bool:
        """Returns whether the next part has been begun with this one's commit."""
        row = part.row
        if not begun and (why := self._unreachable(row)) is not None:
            await self._states.failed(row.cause, row.n, f"Forbidden: the chat is unreachable: {why}")
            return False
        payload = dict(row.payload)

        async def perform(chat: int | None) -> Any:
            return await self._bot.perform(row.method, payload if chat is None else moved(payload, chat))

        def mend(error: TelegramError) -> bool:
            """Rather a plain answer than none."""
            if not isinstance(error, BadRequest) or "entit" not in str(error).lower() or "entities" not in payload:
                return False
            _log.warning("entities refused; sending the text without them", cause=row.cause, n=row.n)
            del payload["entities"]
            return True

        outcome = await self._caller.make(
            _call(row),
            perform,
            self._states.entry(row, known=True),
            begun=begun,
            again=row.uncertain > 0,
            mend=mend,
        )
        if isinstance(outcome, Answered):
            next_begun = following is not None and self.take(following)
            await self._recorder.deferred(row, outcome.result, part.message, begin_next=next_begun)
            return next_begun
        if isinstance(outcome, Refused):
            _log.error("telegram refuses a message", cause=row.cause, n=row.n, error=describe_error(outcome.error))
        return False

    def _unreachable(self, row: SendRow) -> str | None:
        return self._whereabouts.why_unreachable(self._whereabouts.now(place_of(row.payload)))


def _call(row: SendRow) -> Call:
    paid = bool(row.payload.get("allow_paid_broadcast"))
    items = items_of(row.method, row.payload)
    return Call(row.method, place_of(row.payload), items, row.cause, row.n, row.trace_id, paid)


def begun(row: SendRow) -> SendRow:
    """The row of a part that is about to be sent."""
    return dataclasses.replace(row, state="sending")


def send_row(cause: str, n: int, trace_id: str, payload: dict[str, Any], method: str = "sendMessage") -> SendRow:
    """The journal's row of one deferred send."""
    chat = place_of(payload)
    return SendRow(
        cause, n, "deferred", method, chat if isinstance(chat, int) else None, payload, "planned", trace_id=trace_id
    )
