"""Where calls wait for flood control: each task for its own turn, so that a hundred of them don't wake up together.

`Flood` decides whose turn it is; here is the one timer that asks it. Knows nothing of the send journal.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import structlog
from telegram.error import RetryAfter

from botctl.bot.sending.flood import Blame, Flood, Place, Ticket

_log = structlog.get_logger("botctl.bot.sending.flood")


class FloodGate:
    """All sends of one bot go through it: inline, deferred, left over, unnumbered."""

    def __init__(self, flood: Flood, clock: Callable[[], float]) -> None:
        self._flood = flood
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def take(self, place: Place, items: int = 1, *, bulk: bool = False, paid: bool = False) -> bool:
        """A slot at once, or False; with True it is used up and the call is to be made now."""
        now = self._clock()
        if items == 0:
            return self._flood.blocked(place, now) <= 0
        return self._flood.take(place, items, now, bulk=bulk, paid=paid)

    async def turn(
        self,
        place: Place,
        items: int = 1,
        *,
        bulk: bool = False,
        paid: bool = False,
        patience: float | None = None,
        queueing: float | None = None,
    ) -> None:
        """Wait until a call may be made. `items` 0: it isn't limited, but waits where Telegram has said so.

        Raises telegram.error.RetryAfter when Telegram's own word is longer than `patience` seconds, or the turn doesn't
        come within `queueing` seconds.
        """
        if self.take(place, items, bulk=bulk, paid=paid):
            return
        while (wait := self._flood.blocked(place, self._clock())) > 0:
            if patience is not None and wait > patience:
                raise RetryAfter(math.ceil(wait))
            if items > 0:
                break
            await asyncio.sleep(wait)
        if items > 0:
            await self._queue(Ticket(place, items, bulk=bulk, paid=paid), queueing)

    def blocked(self, place: Place) -> float:
        """Seconds for which Telegram has forbidden calls there."""
        return self._flood.blocked(place, self._clock())

    def refused(self, place: Place, retry_after: float) -> Blame:
        """Telegram has answered 429; those whom it concerns wait."""
        blame = self._flood.refused(place, retry_after, self._clock())
        _log.warning("telegram asks to wait", chat_id=place, retry_after=retry_after, concerns=blame.value)
        self._serve()
        return blame

    async def _queue(self, ticket: Ticket, queueing: float | None) -> None:
        waiter = ticket.waiter = asyncio.get_running_loop().create_future()
        self._flood.ask(ticket, self._clock())
        self._serve()
        try:
            async with asyncio.timeout(queueing):
                await waiter
        except TimeoutError:
            raise RetryAfter(1) from None
        finally:
            if not waiter.done() or waiter.cancelled():
                self._flood.withdraw(ticket)

    def _serve(self) -> None:
        now = self._clock()
        for ticket in self._flood.grant(now):
            if not ticket.waiter.done():
                ticket.waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (wake_at := self._flood.wake_at()) is not None:
            delay = max(wake_at - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._serve)
