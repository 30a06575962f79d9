"""The send journal at work: every call that shows is recorded before it is made, and again when Telegram has answered.

What the rules decide is performed here. What remains is the gap between Telegram's answer and our commit; there the
bot's `on_uncertain` decides, and the case is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import telegram.error
from telegram.error import InvalidToken, NetworkError, RetryAfter, TelegramError, TimedOut

from botctl.bot.flood import Flood
from botctl.bot.health import Health
from botctl.bot.journal_rules import Make, Recorded, Refused, Skip, describe_error, recordable, split_error
from botctl.bot.scope import Scope, active
from botctl.bot.send_states import SendStates
from botctl.bot.sent import SentRecorder, chat_of
from botctl.bot.token_refusal import TokenRefusal, means_the_token
from botctl.bot.transport import NotSentError, OutcomeUnknownError, ServerFaultError
from botctl.bus.backoff import Backoff
from botctl.storage.sends import SendRow

_log = structlog.get_logger("botctl.bot.journal")

Perform = Callable[[], Awaitable[Any]]

INLINE_PATIENCE = 60.0
"""Seconds a handler's call waits for the network or for flood control before the handler is told."""


class NotRepeatedError(TimedOut):
    """A send that may have arrived is not made again, as the bot's `on_uncertain: skip` says.

    A handler that doesn't catch it ends, and its update counts as handled.
    """


class SendJournal:
    """Inline sends: those that handlers make and whose answer they wait for."""

    def __init__(
        self,
        states: SendStates,
        recorder: SentRecorder,
        flood: Flood,
        health: Health,
        token_refusal: TokenRefusal,
        *,
        resend: bool,
        clock: Callable[[], float],
    ) -> None:
        self._states = states
        self._recorder = recorder
        self._flood = flood
        self._health = health
        self._token_refusal = token_refusal
        self._resend = resend
        self._clock = clock

    async def call(self, method: str, parameters: dict[str, Any], perform: Perform) -> Any:
        """Make a call, or answer it from the journal. Raises what Telegram's refusal is in python-telegram-bot."""
        scope = active() or Scope.operation()
        payload = recordable(parameters)
        chat = chat_of(payload)
        divergences = scope.journal.divergences
        decision = scope.journal.decide(method, chat, resend=self._resend)
        if scope.journal.divergences > divergences:
            self._health.count("divergences")
            _log.warning("a replayed handler takes another way; its call is made afresh", method=method)
        match decision:
            case Recorded(row):
                _log.info("send answered from the journal", n=row.n, method=method)
                return row.result
            case Refused(row):
                raise rebuild_error(row.error)
            case Skip(n, recorded=recorded):
                if not recorded:
                    await self._states.skip(scope.cause, n, "the process ended during the call")
                raise NotRepeatedError("the send may have arrived; it is not repeated (on_uncertain: skip)")
            case Make(n, known=known, uncertain=uncertain):
                await self._begin(scope, n, method, chat, payload, known=known, uncertain=uncertain)
                return await self._perform(scope, n, method, chat, payload, perform)

    async def unnumbered(self, method: str, chat: int | None, perform: Perform) -> Any:
        """A call that isn't recorded; flood control and safe retries apply all the same."""
        backoff, deadline = Backoff(first=0.1, limit=5.0), self._clock() + INLINE_PATIENCE
        while True:
            await self._wait_for_flood(chat, deadline)
            try:
                return await perform()
            except RetryAfter as error:
                self._refused_for_flood(chat, error)
            except InvalidToken as error:
                if means_the_token(error, method):
                    await self._token_refusal.refused(error)
                raise
            except (NotSentError, ServerFaultError, OutcomeUnknownError):
                if method == "sendChatAction" or self._clock() >= deadline:
                    raise
                await asyncio.sleep(backoff.next())

    async def _perform(
        self, scope: Scope, n: int, method: str, chat: int | None, payload: dict[str, Any], perform: Perform
    ) -> Any:
        backoff, deadline = Backoff(first=0.1, limit=5.0), self._clock() + INLINE_PATIENCE
        while True:
            try:
                await self._wait_for_flood(chat, deadline)
                result = await perform()
            except RetryAfter as error:
                self._refused_for_flood(chat, error)
                if self._flood.wait(chat, self._clock()) > deadline - self._clock():
                    await self._states.unbegin(scope.cause, n)
                    raise
            except (NotSentError, ServerFaultError):
                if self._clock() >= deadline:
                    await self._states.unbegin(scope.cause, n)
                    raise
                await asyncio.sleep(backoff.next())
            except OutcomeUnknownError as error:
                if not self._resend:
                    await self._states.skip(scope.cause, n, describe_error(error))
                    raise NotRepeatedError(
                        "the send may have arrived; it is not repeated (on_uncertain: skip)"
                    ) from error
                if self._clock() >= deadline:
                    raise
                _log.warning("a send's outcome is unknown; it is made again", n=n, method=method)
                await asyncio.sleep(backoff.next())
                await self._states.begin(scope.cause, n, uncertain=True)
            except NetworkError as error:
                if isinstance(error, telegram.error.BadRequest):
                    await self._states.refuse(scope.cause, n, method, error)
                raise
            except TelegramError as error:
                await self._states.refuse(scope.cause, n, method, error)
                raise
            else:
                await self._recorder.inline(scope, n, method, payload, result)
                return result

    async def _begin(
        self,
        scope: Scope,
        n: int,
        method: str,
        chat: int | None,
        payload: dict[str, Any],
        *,
        known: bool,
        uncertain: bool,
    ) -> None:
        if uncertain:
            _log.warning("a send's outcome is unknown after a crash; it is made again", n=n, method=method)
        if known:
            await self._states.begin(scope.cause, n, uncertain=uncertain)
        else:
            row = SendRow(scope.cause, n, "inline", method, chat, payload, "sending", trace_id=scope.trace_id)
            await self._states.plan(row)

    async def _wait_for_flood(self, chat: int | None, deadline: float) -> None:
        while (wait := self._flood.wait(chat, self._clock())) > 0:
            if self._clock() + wait > deadline:
                raise RetryAfter(int(wait) + 1)
            await asyncio.sleep(wait)

    def _refused_for_flood(self, chat: int | None, error: RetryAfter) -> None:
        seconds = seconds_of(error)
        _log.warning("telegram asks to wait", chat_id=chat, retry_after=seconds)
        self._flood.refused(chat, seconds, self._clock())


def seconds_of(error: RetryAfter) -> float:
    """The seconds a 429 asks to wait."""
    return float(error._retry_after.total_seconds())


def rebuild_error(text: str | None) -> TelegramError:
    """The error of python-telegram-bot that a recorded refusal was."""
    name, message = split_error(text)
    kind = getattr(telegram.error, name, None)
    if name == "ChatMigrated":
        digits = message.rpartition(" ")[2]
        return telegram.error.ChatMigrated(int(digits)) if digits.lstrip("-").isdigit() else TelegramError(message)
    if (
        isinstance(kind, type)
        and issubclass(kind, TelegramError)
        and name in ("BadRequest", "Forbidden", "InvalidToken")
    ):
        return kind(message)
    return TelegramError(message)
