"""The one way of calling Telegram: flood control, retries, and a row of the journal that says how far it has come.

Before a call its row says `sending`; while a call waits for anything, it says `planned`. So a crash leaves a row
`sending` only when its call may have been made. Never decides what a send is; keeps no result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, assert_never

import structlog
from telegram.error import ChatMigrated, InvalidToken, RetryAfter, TelegramError

from botctl.bot.receiving.token_refusal import TokenRefusal
from botctl.bot.sending.flood import Place
from botctl.bot.sending.flood_gate import FloodGate
from botctl.bot.sending.journal_rules import describe_error
from botctl.bot.sending.methods import is_spending
from botctl.bot.sending.outage import LONGEST, SOON, Outage
from botctl.bot.sending.send_states import Entry
from botctl.bot.sending.verdicts import Verdict, verdict_of, why_unreachable
from botctl.bot.sending.whereabouts import Whereabouts

_log = structlog.get_logger("botctl.bot.sending.calling")

Perform = Callable[[int | None], Awaitable[Any]]
"""Makes the call; given another chat's id when the chat it was meant for has moved there."""

QUEUEING = 600.0
"""Seconds a call waits for its turn among the bot's own before its handler is told."""


@dataclass(frozen=True)
class Call:
    """One call: `place` is the chat as the caller names it, `items` what it counts for flood control.

    `cause`, `n` and `trace_id` say where it came from, for what is published about it.
    """

    method: str
    place: Place
    items: int
    cause: str
    n: int = 0
    trace_id: str = ""
    paid: bool = False

    @property
    def bulk(self) -> bool:
        """Whether it may wait while people are answered."""
        return not self.cause.startswith("update:")


@dataclass(frozen=True)
class Answered:
    """Telegram has carried it out."""

    result: Any


@dataclass(frozen=True)
class Refused:
    """Telegram refuses it, and the row says so."""

    error: TelegramError


@dataclass(frozen=True)
class Uncertain:
    """It may have been carried out, and isn't repeated; the row says so."""

    error: TelegramError


@dataclass(frozen=True)
class GivenUp:
    """Patience is over; the row is planned."""

    error: TelegramError


Outcome = Answered | Refused | Uncertain | GivenUp


class Caller:
    """Shared by all who call Telegram for the bot."""

    def __init__(
        self,
        gate: FloodGate,
        whereabouts: Whereabouts,
        token_refusal: TokenRefusal,
        *,
        resend: bool,
        clock: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._whereabouts = whereabouts
        self._token_refusal = token_refusal
        self.resend = resend
        """The bot's `on_uncertain`."""
        self._clock = clock
        self._outage = Outage(clock)

    def repeats(self, method: str) -> bool:
        """Whether a call that may have been carried out is made again."""
        return self.resend and not is_spending(method)

    def take(self, call: Call) -> bool:
        """Take a slot for a call that is about to be begun, if there is one at once."""
        place = self._whereabouts.now(call.place)
        return self._gate.take(place, call.items, bulk=call.bulk, paid=call.paid)

    async def make(
        self,
        call: Call,
        perform: Perform,
        entry: Entry,
        *,
        begun: bool = False,
        again: bool = False,
        patience: float | None = None,
        mend: Callable[[TelegramError], bool] | None = None,
    ) -> Outcome:
        """Call until there is an outcome. `begun`: the row says `sending` and a slot is taken, for this very call.

        `again`: an earlier call may have been carried out. `patience`: seconds after which it is given up, None for
        never. `mend` may change what `perform` sends so that a refused call is worth another try.
        """
        deadline = None if patience is None else self._clock() + patience
        waits = self._outage.patience(LONGEST if patience is None else SOON)
        while True:
            place = self._whereabouts.now(call.place)
            if not begun:
                try:
                    await self._turn(call, place, deadline)
                except RetryAfter as error:
                    return GivenUp(error)
                await entry.begin()
            try:
                result = await perform(place if place != call.place and isinstance(place, int) else None)
                self._outage.answered()
                return Answered(result)
            except TelegramError as error:
                outcome, pause = await self._judge(call, place, entry, error, again=again, mend=mend)
                if isinstance(outcome, Verdict):
                    again = again or outcome is Verdict.HIDDEN
                    late = deadline is not None and self._clock() >= deadline
                    if late or (outcome is Verdict.WAIT and self._is_too_long(place, deadline)):
                        return GivenUp(error)
                    if pause:
                        await waits.pause()
                    begun = False
                    continue
                return outcome

    async def _judge(
        self,
        call: Call,
        place: Place,
        entry: Entry,
        error: TelegramError,
        *,
        again: bool,
        mend: Callable[[TelegramError], bool] | None,
    ) -> tuple[Outcome | Verdict, bool]:
        """The outcome; or the verdict after which it is called again, and whether to pause before."""
        verdict = verdict_of(error, call.method, again=again)
        if verdict in (Verdict.WAIT, Verdict.MOVED, Verdict.DONE):
            self._outage.answered()
        match verdict:
            case Verdict.DONE:
                return Answered(True), False
            case Verdict.WAIT:
                assert isinstance(error, RetryAfter)
                self._gate.refused(place, seconds_of(error))
                await entry.unbegin(seconds_of(error))
                return verdict, False
            case Verdict.AGAIN:
                await entry.unbegin()
                _log.warning("not sent; trying again", method=call.method, cause=call.cause, error=str(error))
                return verdict, True
            case Verdict.HIDDEN:
                repeats = self.repeats(call.method)
                await entry.hidden(describe_error(error), again=repeats)
                return (verdict, True) if repeats else (Uncertain(error), False)
            case Verdict.MOVED:
                assert isinstance(error, ChatMigrated)
                await entry.unbegin()
                if isinstance(place, int):
                    await self._whereabouts.moved(place, error.new_chat_id)
                return verdict, not isinstance(place, int)
            case Verdict.TOKEN:
                assert isinstance(error, InvalidToken)
                await entry.unbegin()
                await self._token_refusal.refused(error)
            case Verdict.REFUSED:
                if mend is not None and mend(error):
                    await entry.unbegin()
                    return verdict, False
                await entry.failed(describe_error(error))
                if (why := why_unreachable(error)) is not None and isinstance(place, int):
                    await self._whereabouts.lost(place, why, call.cause, call.trace_id, call.n)
                return Refused(error), False
        assert_never(verdict)

    async def _turn(self, call: Call, place: Place, deadline: float | None) -> None:
        await self._gate.turn(
            place,
            call.items,
            bulk=call.bulk,
            paid=call.paid,
            patience=None if deadline is None else max(deadline - self._clock(), 0.0),
            queueing=None if deadline is None else QUEUEING,
        )

    def _is_too_long(self, place: Place, deadline: float | None) -> bool:
        return deadline is not None and self._clock() + self._gate.blocked(place) > deadline


def seconds_of(error: RetryAfter) -> float:
    """The seconds a 429 asks to wait."""
    return float(error._retry_after.total_seconds())
