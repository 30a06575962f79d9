"""Moves events from all out streams to the logs and mailboxes, in the control process.

Here is its loop: when it looks at what, and what it does between its rounds (`rounds.py`), in which nothing is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import structlog
from redis.asyncio import Redis

from botctl.bus.backoff import Backoff
from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.caretaking.retention import KEEP_SECONDS
from botctl.bus.caretaking.sentry import Offence, Sentry
from botctl.bus.client import AWAY, reason
from botctl.bus.reading.mailbox_groups import MAILBOX_CONSUMERS
from botctl.bus.routing.allowance import Allowance
from botctl.bus.routing.batch import Rejected
from botctl.bus.routing.complaints import Complaints
from botctl.bus.routing.doorbell import Doorbell
from botctl.bus.routing.pressure import LOOK_EVERY, Pressure
from botctl.bus.routing.recognition import Recognition, StrangeServerError
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.rounds import Rounds
from botctl.bus.routing.stats import RouterStats
from botctl.bus.routing.turns import Turns
from botctl.bus.topology import Receiver, Topology
from botctl.bus.wire import line

_log = structlog.get_logger("botctl.bus.routing.router")

_TIDY_EVERY = 10.0
_RELIEVE_EVERY = 1.0
_BETWEEN_RINGS = 0.02
_SWEEP_WITH_DOORBELL = 2.0
_LOOK_AGAIN_AFTER = 0.02


class Router:
    """`roster` gives the fleet as it is now, the same object as long as it is the same.

    `on_rejected` is told of each dead letter, and of whatever else a bot does to the bus that no bot of ours would.
    `on_lost` is told that what this bot has relayed within so many seconds may be lost. `sweep_every`: seconds between
    looks at all streams while the doorbell doesn't work. `may_hand_out` says whether members of groups can store what
    they read. The logs keep events for `keep_seconds`; `on_dropped` is told of each reader that has lost some unread,
    `guard` looks after programs outside. `redis` needs all rights on the namespace.

    `server` gives the identity of the server on which all is made (`caretaking/identity.py`), None while there is none:
    on another one nothing is routed, and `on_stranger` is called. `gate` is held while anything is done.
    """

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        roster: Callable[[], Roster],
        on_rejected: Callable[[Rejected], None] | None = None,
        *,
        on_lost: Callable[[int, float], None] = lambda bot_id, seconds: None,
        sweep_every: float = 0.25,
        janitor: Janitor | None = None,
        may_hand_out: Callable[[], bool] = lambda: True,
        allowance: Allowance | None = None,
        keep_seconds: float = KEEP_SECONDS,
        on_dropped: Callable[[Dropped], None] = lambda dropped: None,
        guard: GrantGuard | None = None,
        gate: asyncio.Lock | None = None,
        server: Callable[[], str | None] | None = None,
        on_stranger: Callable[[], None] = lambda: None,
    ) -> None:
        self.stats = RouterStats()
        self.complaints = Complaints(on_rejected)
        self.janitor = janitor or Janitor(
            redis,
            topology,
            on_flood=lambda bot, what: self._sentry.accuse(bot, what),
            sources=lambda receiver: self._pressure.sources(receiver),
            may_hand_out=may_hand_out,
            keep_seconds=keep_seconds,
            on_dropped=on_dropped,
            on_excess=guard.accuse if guard is not None else lambda group, what: None,
        )
        self._pressure = Pressure(time.monotonic, self.janitor.mailbox_limit)
        self._redis = redis
        self._topology = topology
        self._roster = roster
        self._sweep_every = sweep_every
        self._doorbell = Doorbell(redis, topology, self._consumer_made)
        self._gate = gate or asyncio.Lock()
        self._sentry = Sentry(redis, topology, self._bots, self._offended, guard=guard, gate=self._gate)
        self._consumers: Counter[Receiver] = Counter()
        """Consumers made in mailboxes since all were looked at."""
        self._on_lost = on_lost
        self._server = Recognition(topology, server)
        self._on_stranger = on_stranger
        self._forgetful = False
        self._turns = Turns(allowance or Allowance(time.monotonic), self._pressure, self.complaints)
        self._rounds = Rounds(
            redis,
            topology,
            roster,
            self.janitor,
            self._doorbell,
            self._turns,
            self._pressure,
            self.complaints,
            self.stats,
            marked=server is not None,
        )

    def forget(self) -> None:
        """The server may have lost events: only what its logs still have counts as routed."""
        self._forgetful = True

    def kept_off(self) -> dict[int, tuple[str, float]]:
        """Bots that are kept off Redis now: why, and for how many seconds more."""
        return self._sentry.kept_off()

    async def run(self) -> None:
        """Route until cancelled. Redis being away is waited out."""
        backoff = Backoff()
        beside = [
            asyncio.create_task(self._doorbell.run(), name="bus doorbell"),
            asyncio.create_task(self._sentry.run(), name="bus sentry"),
        ]
        try:
            while True:
                try:
                    await self._route(backoff)
                except StrangeServerError:
                    self._on_stranger()
                    await asyncio.sleep(_LOOK_AGAIN_AFTER)
                except AWAY as error:
                    self._turns.portions.careful()
                    await self._wait_out(error, reason(error), backoff)
                except Exception as error:
                    _log.exception("the router stumbles")
                    await self._wait_out(error, f"{type(error).__name__} in the router", backoff)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _route(self, backoff: Backoff) -> None:
        clock = asyncio.get_running_loop().time
        async with self._gate:
            await self._open()
        sweep_at = tidy_at = relieve_at = measure_at = clock()
        while True:
            self.stats.doorbell = self._doorbell.works
            async with self._gate:
                if self._forgetful:
                    await self._open()
                    sweep_at = clock()
                if clock() >= min(relieve_at, measure_at):
                    await self._server.recognise(self._redis)
                if clock() >= relieve_at:
                    await self.janitor.relieve(self._bots(), self._roster())
                    await self._look_for_losses()
                    self.stats.dropped = self.janitor.dropped
                    relieve_at = clock() + _RELIEVE_EVERY
                if clock() >= measure_at:
                    await self._measure()
                    measure_at = clock() + LOOK_EVERY
            if clock() >= sweep_at:
                self._sweep()
                sweep_at = clock() + (_SWEEP_WITH_DOORBELL if self._doorbell.works else self._sweep_every)
            if not self._doorbell.ready:
                await self._doorbell.wait((min(sweep_at, measure_at) if self._turns.held else sweep_at) - clock())
                continue
            chosen = self._turns.take(self._doorbell.ready)
            if not chosen:
                await asyncio.sleep(_BETWEEN_RINGS)  # Bots that have to wait may ring as often as they like.
                continue
            roster = self._roster()
            self._rounds.update(roster)
            async with self._gate:
                if self._forgetful:
                    for bot_id in chosen:
                        self._doorbell.ring(bot_id)
                    continue
                await self._round(chosen)
                self._recovered(backoff)
                if clock() >= tidy_at or self._rounds.tampered:
                    self._rounds.tampered = False
                    self._consumers.clear()
                    await self._server.recognise(self._redis)
                    await self.janitor.tidy(self._bots(), self._doorbell.ring, roster)
                    self._pressure.measured(self.janitor.mailbox_depths)
                    self._pressure.forget(self.janitor.mailbox_depths)
                    self._tell_losses()
                    self.stats.tidied(self.janitor, roster.groups)
                    tidy_at = clock() + _TIDY_EVERY

    async def _open(self) -> None:
        """After a start or an error."""
        await self._server.recognise(self._redis)
        await self._rounds.start_over(forget=self._forgetful)
        self._forgetful = False
        self._doorbell.rung.set()

    def _bots(self) -> list[int]:
        self._rounds.known |= self._roster().bots.keys()
        return sorted(self._rounds.known)

    def _sweep(self) -> None:
        for bot_id in self._bots():
            self._doorbell.ring(bot_id)

    async def _measure(self) -> None:
        """The mailboxes that fill; then those who wait for their readers have another look."""
        if filling := self._pressure.to_measure():
            self._pressure.measured(await self.janitor.measure(filling))
        for bot_id in self._turns.held:
            self._doorbell.ring(bot_id)
        self._turns.held.clear()

    async def _round(self, bots: list[int]) -> None:
        async with line(self._redis) as held:
            await self._server.recognise_anew(held)
            await self._rounds.route(held, bots)

    async def _look_for_losses(self) -> None:
        """At the streams of which less could be read than was added, and at those to be replaced without delay."""
        less = {bot for bot, added in self._doorbell.added.items() if added > 0}
        suspects = [bot for bot in self._rounds.caught_up if bot in less or not self.janitor.outs.losses.knows(bot)]
        self._doorbell.added.clear()
        if suspects:
            await self.janitor.outs.check(suspects, self._doorbell.ring)
            self.stats.replaced_streams = self.janitor.outs.replaced
        self._tell_losses()

    def _tell_losses(self) -> None:
        for bot_id, entries, seconds in self.janitor.outs.losses.take(time.monotonic()):
            self.stats.vanished += entries
            _log.warning("events are gone from an out stream before they were routed; they are relayed again",
                         bot_id=bot_id, events=entries, seconds=round(seconds))  # fmt: skip
            self._on_lost(bot_id, seconds)
            what = f"its out stream was made unusable, or cut before it was routed: {entries} events"
            self.complaints.accuse(bot_id, what)

    def _consumer_made(self, receiver: Receiver) -> None:
        """Nobody can say which member of a group it was: who shares a group shares this."""
        members = (receiver,) if isinstance(receiver, int) else self._roster().members(receiver)
        self._consumers[receiver] += 1
        if self._consumers[receiver] > MAILBOX_CONSUMERS + len(members) - 1:
            del self._consumers[receiver]
            self._rounds.tampered |= isinstance(receiver, str)
            for bot_id in members:
                self._sentry.accuse(bot_id, "it makes consumers in its mailbox, or its group's, without end")

    def _offended(self, offence: Offence) -> None:
        self.stats.paused_bots += 1
        self.complaints.accuse(offence.bot_id, f"it was kept off Redis for {offence.seconds:.0f} s: {offence.what}")

    async def _wait_out(self, error: BaseException, why: str, backoff: Backoff) -> None:
        if self.stats.healthy or why != self.stats.reason:
            _log.warning("events can't be routed", reason=why, error=type(error).__name__, detail=str(error)[:200])
        self.stats.healthy, self.stats.reason = False, why
        await asyncio.sleep(backoff.next())

    def _recovered(self, backoff: Backoff) -> None:
        if not self.stats.healthy:
            _log.info("events are routed again")
        self.stats.healthy, self.stats.reason = True, ""
        backoff.reset()
