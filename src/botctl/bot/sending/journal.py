"""The send journal at work: every call that shows is recorded before it is made, and again when Telegram has answered.

What the rules decide is performed here. What remains is the gap between Telegram's answer and our commit; there the
bot's `on_uncertain` decides, and the case is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
import telegram.error
from telegram.error import TelegramError, TimedOut

from botctl.bot.handling.scope import Scope, active
from botctl.bot.sending.calling import Answered, Call, Caller, GivenUp, Perform, Uncertain
from botctl.bot.sending.flood import Place
from botctl.bot.sending.journal_rules import Make, Recorded, Refused, Skip, describe_error, recordable, split_error
from botctl.bot.sending.send_states import SendStates, Unrecorded
from botctl.bot.sending.sent import SentRecorder, chat_of
from botctl.bot.vitals.health import Health
from botctl.storage.sends import SendRow

_log = structlog.get_logger("botctl.bot.sending.journal")

INLINE_PATIENCE = 60.0
"""Seconds a handler's call waits for the network or for Telegram's flood control before the handler is told."""

_ENDED = "the process ended during the call"
_FLEETING = frozenset({"sendchataction", "sendmessagedraft"})
"""What is shown for seconds only isn't worth another try."""


class NotRepeatedError(TimedOut):
    """A send that may have arrived is not made again: the bot's `on_uncertain` says `skip`, or it costs Stars.

    A handler that doesn't catch it ends, and its update counts as handled.
    """

    def __init__(self) -> None:
        super().__init__("the send may have arrived; it is not repeated")


@dataclass(frozen=True)
class Asked:
    """A call as a handler makes it. `parameters` may be recorded; `items`: what it counts for flood control."""

    method: str
    parameters: dict[str, Any]
    place: Place
    items: int
    paid: bool = False


class SendJournal:
    """Inline sends: those that handlers make and whose answer they wait for."""

    def __init__(self, states: SendStates, recorder: SentRecorder, caller: Caller, health: Health) -> None:
        self._states = states
        self._recorder = recorder
        self._caller = caller
        self._health = health

    async def call(self, asked: Asked, perform: Perform) -> Any:
        """Make a call, or answer it from the journal. Raises what Telegram's refusal is in python-telegram-bot."""
        scope = active() or Scope.operation()
        payload = recordable(asked.parameters)
        chat = chat_of(payload)
        divergences = scope.journal.divergences
        decision = scope.journal.decide(asked.method, chat, resend=self._caller.repeats(asked.method))
        if scope.journal.divergences > divergences:
            self._health.count("divergences")
            _log.warning("a replayed handler takes another way; its call is made afresh", method=asked.method)
        match decision:
            case Recorded(row):
                _log.info("send answered from the journal", n=row.n, method=asked.method)
                return row.result
            case Refused(row):
                raise rebuild_error(row.error)
            case Skip(n, recorded=recorded):
                if not recorded:
                    await self._states.hidden(scope.cause, n, _ENDED, again=False)
                raise NotRepeatedError
            case Make(n, known=known, uncertain=uncertain, again=again):
                if uncertain:
                    await self._states.hidden(scope.cause, n, _ENDED, again=True)
                row = SendRow(scope.cause, n, "inline", asked.method, chat, payload, "sending", trace_id=scope.trace_id)
                return await self._make(scope, row, asked, perform, known=known, again=again or uncertain)

    async def unnumbered(self, asked: Asked, perform: Perform) -> Any:
        """A call that isn't recorded; flood control and retries apply all the same."""
        scope = active()
        cause, trace_id = (scope.cause, scope.trace_id) if scope is not None else ("update:", "")
        call = Call(asked.method, asked.place, asked.items, cause, trace_id=trace_id)
        patience = 0.0 if asked.method.lower() in _FLEETING else INLINE_PATIENCE
        outcome = await self._caller.make(call, perform, Unrecorded(), again=True, patience=patience)
        if isinstance(outcome, Answered):
            return outcome.result
        raise outcome.error

    async def _make(
        self, scope: Scope, row: SendRow, asked: Asked, perform: Perform, *, known: bool, again: bool
    ) -> Any:
        scope.journal.open.add(row.n)
        call = Call(asked.method, asked.place, asked.items, row.cause, row.n, row.trace_id, asked.paid)
        entry = self._states.entry(row, known=known)
        outcome = await self._caller.make(call, perform, entry, again=again, patience=INLINE_PATIENCE)
        if isinstance(outcome, Answered):
            await self._recorder.inline(scope, row.n, row.method, row.payload, outcome.result)
            scope.journal.open.discard(row.n)
            return outcome.result
        if not isinstance(outcome, GivenUp):
            scope.journal.open.discard(row.n)
        elif scope.inbox_id == 0:  # nothing runs it again
            await self._states.failed(row.cause, row.n, describe_error(outcome.error))
        if isinstance(outcome, Uncertain):
            raise NotRepeatedError from outcome.error
        raise outcome.error


def rebuild_error(text: str | None) -> TelegramError:
    """The error of python-telegram-bot that a recorded refusal was."""
    name, message = split_error(text)
    kind = getattr(telegram.error, name, None)
    if (
        isinstance(kind, type)
        and issubclass(kind, TelegramError)
        and name in ("BadRequest", "Forbidden", "InvalidToken")
    ):
        return kind(message)
    return TelegramError(message)
