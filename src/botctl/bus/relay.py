"""Brings a bot's outbox to its out stream, in the bot process.

At least once and in order: rows are marked only after Redis has them, and a row whose reply was lost goes again; the
router drops what it has seen. Redis being away never raises out of here and never loses a row: the outbox in
PostgreSQL is the truth. What has waited goes no faster than the router takes it, and waits in the outbox until then.

Never makes the stream: on a server that has lost its data `control` does, once what was lost is due again. So nothing
new gets in before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from botctl.bus.backoff import Backoff
from botctl.bus.client import AWAY, reason
from botctl.bus.events import Event, encode_event
from botctl.bus.pace import MOST, Pace
from botctl.bus.topology import FIELD, Topology
from botctl.bus.wire import Command, Line, execute, line
from botctl.errors import ProtocolError

_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25
"""Seconds between two looks whether the router has taken what lies in the out stream."""

_log = structlog.get_logger("botctl.bus.relay")


class OutboxRow(Protocol):
    """One row of the outbox; `seq` orders them."""

    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def event(self) -> Event: ...  # noqa: D102


class OutboxPort(Protocol):
    """What the relay needs of the outbox. Both may raise anything while the database is away."""

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        """The oldest rows not relayed yet, in order of `seq`."""
        ...

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """These rows need not be relayed again."""
        ...


class _OutboxError(Exception):
    """The outbox has raised; told apart from Redis's errors, which may be of the same classes."""


_T = TypeVar("_T")


async def _ask(answer: Awaitable[_T]) -> _T:
    try:
        return await answer
    except Exception as error:
        raise _OutboxError from error


class Relay:
    """One bot's relay (`bot_id` 0: the fleet's, in the control process).

    `healthy` and `reason` say whether rows get through; `relayed` counts rows. `on_refused` is told of a row that can
    never be sent; such a row is marked, so that it doesn't block the others. `gate` is held while a batch is sent.
    """

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        bot_id: int,
        outbox: OutboxPort,
        *,
        batch: int = MOST,
        check_every: float = 1.0,
        on_refused: Callable[[OutboxRow, ProtocolError], None] | None = None,
        gate: asyncio.Lock | None = None,
    ) -> None:
        self.healthy = True
        self.reason = ""
        self.relayed = 0
        self.refused = 0
        self.behind = False
        """Whether more waits in the outbox than goes at once."""
        self._redis = redis
        self._stream = topology.out(bot_id)
        self._outbox = outbox
        self._pace = Pace(batch)
        self._check_every = check_every
        self._on_refused = on_refused
        self._gate = gate or asyncio.Lock()
        self._awake = asyncio.Event()
        self._backoff = Backoff()

    def wake(self) -> None:
        """Rows have been committed. Costs nothing; call it as often as you like."""
        self._awake.set()

    async def run(self) -> None:
        """Relay until cancelled. The outbox is also looked at every `check_every` seconds without being woken."""
        while True:
            self._awake.clear()
            try:
                more = await self._relay_batch()
            except AWAY as error:
                self._pace.feel_the_way()
                await self._wait_out(error, reason(error))
            except Exception as error:
                await self._wait_out(error.__cause__ or error, "the outbox can't be read or marked")
            else:
                self._recovered()
                self.behind = more
                if not more:
                    await self._sleep(self._check_every)

    async def drain(self, timeout: float) -> bool:
        """Relay what is there, for the end of a process, after `run` was cancelled. True if nothing is left."""
        try:
            async with asyncio.timeout(timeout):
                while await self._relay_batch():
                    pass
        except Exception:
            return False
        return True

    async def _relay_batch(self) -> bool:
        await self._wait_for_room()
        limit = self._pace.rows
        asked = time.monotonic()
        rows = await _ask(self._outbox.pending(limit))
        if not rows:
            return False
        async with line(self._redis) as held:
            if held.since >= asked:
                # Perhaps another server, and other rows are due on it. Over this line nothing goes to a later one.
                rows = await _ask(self._outbox.pending(limit))
            return await self._send(held, rows, limit)

    async def _send(self, held: Line, rows: Sequence[OutboxRow], limit: int) -> bool:
        done: list[int] = []
        commands: list[Command] = []
        seqs: list[int] = []
        size = 0
        for row in rows:
            if size >= self._pace.bytes:
                break
            try:
                body = encode_event(row.event)
            except ProtocolError as error:
                self._refuse(row, error)
                done.append(row.seq)
            else:
                commands.append(("XADD", self._stream, "NOMKSTREAM", "*", FIELD, body))
                seqs.append(row.seq)
                size += len(body)
        failed: BaseException | None = None
        *replies, length = await execute(held, [*commands, ("XLEN", self._stream)])
        for seq, reply in zip(seqs, replies, strict=True):
            if not isinstance(reply, bytes):
                # What follows may have got through, and then comes twice: before this one, and again after it.
                failed = reply if isinstance(reply, BaseException) else ResponseError("the bot's stream isn't made yet")
                break
            done.append(seq)
            self.relayed += 1
        if done:
            await _ask(self._outbox.mark_relayed(done))
        if failed is not None:
            raise failed
        if isinstance(length, int):
            self._pace.sent(len(seqs), size, length)
        return len(rows) >= limit or len(done) < len(rows) or self._awake.is_set()

    async def _wait_for_room(self) -> None:
        """Until the router has taken what was sent before. Raises what Redis raises."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while self._pace.crowded:
            (length,) = await execute(self._redis, [("XLEN", self._stream)])
            if isinstance(length, BaseException):
                raise length
            self._pace.look(length)
            if self._pace.crowded:  # a quarter of what it has taken so far, so that little is waited in vain
                await asyncio.sleep(max(_FIRST_LOOK, min(_LONGEST_LOOK, (clock() - began) / 4)))

    def _refuse(self, row: OutboxRow, error: ProtocolError) -> None:
        self.refused += 1
        _log.error("event refused", event_id=row.event.id, event_type=row.event.type, reason=error.message)
        if self._on_refused is not None:
            self._on_refused(row, error)

    async def _wait_out(self, error: BaseException, why: str) -> None:
        if self.healthy or why != self.reason:
            _log.warning("events wait in the outbox", reason=why, error=type(error).__name__, detail=str(error)[:200])
        self.healthy, self.reason = False, why
        await asyncio.sleep(self._backoff.next())

    def _recovered(self) -> None:
        if not self.healthy:
            _log.info("events flow again")
        self.healthy, self.reason = True, ""
        self._backoff.reset()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass
