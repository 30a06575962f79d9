"""One bot's queue of updates: ids, confirmation by offset, and the single long poll that may wait on it.

The rules follow the public source of the Bot API server (`Client::do_get_updates`, `TQueue::get`):
an update is forgotten once an offset above its id is asked for; a negative offset counts from the end and forgets what
is before; an offset of more than 10 beyond the newest id is taken for a mistake and answered from the oldest update;
a poll that has to wait ends the one that waits already (409), a poll that doesn't wait does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botctl.sandbox.signals import Signal
from botctl.sandbox.telegram.errors import ApiError, conflict

RETENTION = 86_400.0
"""Seconds Telegram keeps an unconfirmed update."""
NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
"""Kinds of update a bot gets only when it names them in allowed_updates."""
FUTURE_TOLERANCE = 10
QUEUE_LIMIT = 100_000
REPEAT_WINDOW = 3.0
"""Seconds: with `strict`, a poll that repeats the offset of a poll begun within this time is held for so long, and a
second 409 within this time is answered so much later."""

OTHER_POLL = "terminated by other getUpdates request; make sure that only one bot instance is running"


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """An update as it waits: `body` is everything but the id."""

    update_id: int
    body: dict[str, Any]
    at: float

    def as_json(self) -> dict[str, Any]:
        """The update as getUpdates answers it."""
        return {"update_id": self.update_id, **self.body}


class UpdateQueue:
    """Updates of one bot that wait for confirmation."""

    def __init__(self, first_id: int, *, clock: Callable[[], float] = time.time, strict: bool = False) -> None:
        self._next_id = first_id
        self._pending: deque[Update] = deque()
        self._clock = clock
        self._strict = strict
        self._allowed: frozenset[str] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._again: list[dict[str, Any]] = []
        self._last_offset: int | None = None
        self._last_start = 0.0
        self._next_conflict = 0.0
        self.changed = Signal()
        """Notified at each new update; webhooks wait for it."""
        self.last_poll_at: float | None = None
        self.confirmed = 0

    def __len__(self) -> int:
        self._expire()
        return len(self._pending)

    @property
    def next_id(self) -> int:
        """The id the next update will get."""
        return self._next_id

    @property
    def polled(self) -> bool:
        """Whether a long poll is held right now."""
        return self._waiting is not None

    @property
    def allowed(self) -> list[str] | None:
        """The kinds the bot asked for, None for Telegram's default."""
        return None if self._allowed is None else sorted(self._allowed)

    def pending(self) -> list[Update]:
        """What waits, oldest first."""
        self._expire()
        return list(self._pending)

    def allow(self, kinds: Iterable[str] | None) -> None:
        """Remember allowed_updates: None keeps the earlier choice, an empty list is the default set again."""
        if kinds is not None:
            chosen = frozenset(kinds)
            self._allowed = chosen or None

    def wants(self, kind: str) -> bool:
        """Whether new updates of this kind are queued; those already queued stay, as on the real server."""
        return kind not in NOT_BY_DEFAULT if self._allowed is None else kind in self._allowed

    def push(self, kind: str, content: object) -> int | None:
        """Queue an update; its id, or None when the bot doesn't want this kind."""
        return self.push_raw({kind: content}) if self.wants(kind) else None

    def push_raw(self, body: dict[str, Any]) -> int:
        """Queue anything at all, well-formed or not, past allowed_updates. Its own update_id, if any, is replaced."""
        update_id = self._next_id
        self._next_id += 1
        body = {key: value for key, value in body.items() if key != "update_id"}
        self._pending.append(Update(update_id, body, self._clock()))
        if len(self._pending) > QUEUE_LIMIT:
            self._pending.popleft()
        self._wake()
        return update_id

    def first(self, count: int) -> list[Update]:
        """The oldest so many that wait."""
        self._expire()
        return list(islice(self._pending, count))

    def confirm(self, update: Update) -> None:
        """Forget one update that a webhook has taken."""
        with contextlib.suppress(ValueError):
            self._pending.remove(update)
            self.confirmed += 1

    def put_back(self, update: Update) -> None:
        """Let an update that was taken wait again, behind all others."""
        self._pending.append(update)
        self._wake()

    def drop_all(self) -> int:
        """Forget everything that waits."""
        dropped = len(self._pending)
        self._pending.clear()
        return dropped

    async def poll(self, offset: int, limit: int, timeout: float) -> list[Update]:
        """One getUpdates. Raises the 409 of `conflict` when another poll takes its place.

        Cancelling it (the client is gone) frees the place at once.
        """
        start = time.monotonic()
        repeated = offset == self._last_offset and start < self._last_start + REPEAT_WINDOW
        if self._strict and repeated:
            timeout = max(timeout, REPEAT_WINDOW)
        self._last_offset, self._last_start = offset, start
        self.last_poll_at = time.time()
        found = self._take(offset, limit)
        if found or timeout <= 0:
            return found
        await self._wait(timeout)
        return self._take(offset, limit)

    def give_again(self, batch: list[dict[str, Any]]) -> None:
        """Answer the next poll with this batch once more, confirmed or not: Telegram never promised not to."""
        self._again = batch

    def repeated(self) -> list[dict[str, Any]]:
        """The batch to give again, if any; it is given once."""
        again, self._again = self._again, []
        return again

    def end_poll(self, error: ApiError) -> None:
        """Refuse the poll that waits, if any."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():
            return
        now = time.monotonic()
        if self._strict and now < self._next_conflict:
            asyncio.get_running_loop().call_later(REPEAT_WINDOW, _refuse, waiting, error)
            return
        self._next_conflict = now + REPEAT_WINDOW
        _refuse(waiting, error)

    async def _wait(self, timeout: float) -> None:
        self.end_poll(conflict(OTHER_POLL))
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._waiting = waiting
        timer = loop.call_later(timeout, _settle, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            if self._waiting is waiting:
                self._waiting = None

    def _wake(self) -> None:
        self.changed.notify()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _settle(waiting)

    def _take(self, offset: int, limit: int) -> list[Update]:
        self._expire()
        pending = self._pending
        if offset < 0:
            offset = max(0, self._next_id + offset)
        if 0 < offset <= self._next_id + FUTURE_TOLERANCE:
            while pending and pending[0].update_id < offset:
                pending.popleft()
                self.confirmed += 1
        if len(pending) <= limit:
            return list(pending)
        return [pending[index] for index in range(limit)]

    def _expire(self) -> None:
        oldest = self._clock() - RETENTION
        while self._pending and self._pending[0].at < oldest:
            self._pending.popleft()


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _refuse(waiting: asyncio.Future[None], error: ApiError) -> None:
    if not waiting.done():
        waiting.set_exception(error)
