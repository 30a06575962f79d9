"""Keeps Redis as the fleet needs it: streams, groups and a user a bot, made again whenever the server has lost them.

Lives without Redis: what could not be done is done when it is back. What the server has lost is due again before
anybody can publish on it, and only then is it known: a crash at any moment between begins all of it anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from botctl.bus.backoff import Backoff
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.identity import Last, Look, Loss, loss
from botctl.bus.client import AWAY, reason
from botctl.control.bus.previous import PreviousPasswords
from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.bus")

CHECK_EVERY = 1.0

USERS_EVERY = 5.0
"""Seconds after which it is looked whether somebody has taken users away from a server that is the same."""

FRESH = 30.0
"""Seconds for which a look is believed: the server is asked every second, and answers within ten."""


class BusKeeper:
    """`hashes` are the SHA-256 of the Redis password of every bot that shall have a user, by bot_id.

    `recover` is told what the server may have lost, and returns once that is due again; it raises a BotctlError when it
    can't be. `also` makes what others need: it is told whether the server may know nothing of it, and is asked at each
    look.
    """

    def __init__(
        self,
        admin: BusAdmin,
        *,
        recover: Callable[[Loss], Awaitable[None]] | None = None,
        also: Callable[[bool], Awaitable[None]] | None = None,
    ) -> None:
        self._also = also
        self.hashes: dict[int, str] = {}
        self.complete = False
        """Whether `hashes` has been filled from the registry: until then no user is dropped as unknown."""
        self.problem: str | None = "redis: not looked at yet"
        self._admin = admin
        self._changed: set[int] = set()
        self._previous = PreviousPasswords()
        self._groups: frozenset[str] | None = None
        """Groups that there shall be; None as long as nobody has said."""
        self._memberships: dict[int, tuple[str, ...]] = {}
        self._leaving: set[int] = set()
        """Bots that are no longer of a group they were of: their connections end with their rights."""
        self._groups_changed = False
        self.settled: str | None = None
        """The identity of the server on which all is made; None while there is none."""
        self.gate = asyncio.Lock()
        """Held while it is made: nobody routes meanwhile, nor on another server than `settled`."""
        self.relay_gate = asyncio.Lock()
        """Held while what was lost becomes due again: the fleet's own relay, which isn't shut out, waits so long."""
        self._made_anew = False
        """Whether all users were made since they were loaded."""
        self._last: Last | None = None
        self._told_unsaved = False
        self._users_at = -USERS_EVERY
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._recover = recover

    def set(self, bot_id: int, password_sha256: str, previous_sha256: str = "") -> None:
        """The bot has this password from now on, and the previous one for a while."""
        self.hashes[bot_id] = password_sha256
        self._previous.note(bot_id, previous_sha256)
        self._changed.add(bot_id)
        self._wake.set()

    def share(self, groups: Collection[str], memberships: Mapping[int, tuple[str, ...]]) -> None:
        """There shall be these groups, each bot with rights on the streams of those it belongs to."""
        if frozenset(groups) != self._groups:
            self._groups, self._groups_changed = frozenset(groups), True
        for bot_id in self._memberships.keys() | memberships.keys():
            before, after = set(self._memberships.get(bot_id, ())), set(memberships.get(bot_id, ()))
            if before != after:
                self._changed.add(bot_id)
            if before - after:
                self._leaving.add(bot_id)
        self._memberships = dict(memberships)
        self._wake.set()

    def load(self, hashes: dict[int, str]) -> None:
        """What the registry says; those set since are newer and stay."""
        merged = hashes | {bot_id: self.hashes[bot_id] for bot_id in self._changed if bot_id in self.hashes}
        if self.complete and merged == self.hashes:
            return
        self.hashes = merged
        self.complete = True
        self._made_anew = False
        self._wake.set()

    async def drop(self, bot_id: int) -> None:
        """The bot has no user any more. If Redis is away now, the user goes when it is back."""
        self.hashes.pop(bot_id, None)
        self._previous.note(bot_id, "")
        self._changed.discard(bot_id)
        try:
            async with self._one_at_a_time:  # as below
                await self._admin.drop_bot(bot_id)
        except AWAY:
            self._made_anew = False

    async def open_out(self, bot_id: int) -> bool:
        """Make the out stream of a bot that has no user. False: not now, the server isn't as it is to be.

        Raises what Redis raises when it is away.
        """
        async with self._one_at_a_time:  # not while what was lost is made due again
            if self.sound:
                await self._admin.ensure_out(bot_id)
            return self.sound

    async def bar(self, bot_id: int) -> None:
        """The bot's user goes, with its connections; its mailbox stays. Raises what Redis raises when it is away."""
        self.hashes.pop(bot_id, None)
        self._previous.note(bot_id, "")
        self._changed.discard(bot_id)
        async with self._one_at_a_time:  # who is making users now may be making this one
            await self._admin.drop_user(bot_id)

    async def settle(self, timeout: float) -> bool:
        """Do what there is to do now; False when Redis is away."""
        try:
            async with asyncio.timeout(timeout):
                await self._keep()
        except (*AWAY, BotctlError):
            return False
        return True

    async def run(self) -> None:
        """Watch and repair until cancelled."""
        backoff = Backoff(first=0.1)
        while True:
            wait = CHECK_EVERY
            try:
                await self._keep()
            except (*AWAY, BotctlError) as error:
                told = error.message if isinstance(error, BotctlError) else reason(error)
                if self.problem != told:
                    _log.warning("redis can't be prepared", reason=told)
                self.problem = told
                wait = backoff.next()
            else:
                if self.problem is not None:
                    _log.info("redis is ready", bots=len(self.hashes))
                self.problem = None
                backoff.reset()
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _keep(self) -> None:
        async with self._one_at_a_time:
            await self._look_and_repair()

    @property
    def sound(self) -> bool:
        """Whether the server has all that it is to have, as of a moment ago."""
        fresh = self._last is not None and time.monotonic() - self._last.at < FRESH
        return self.settled is not None and self.problem is None and fresh

    def look_now(self) -> None:
        """Somebody has found another server than the one that is `settled`."""
        self._wake.set()

    async def _look_and_repair(self) -> None:
        self._changed |= self._previous.withdraw()
        wall, now = time.time(), time.monotonic()
        async with self._admin.look() as look:
            lost = loss(look.sight, self._last, wall, now)
            if lost is not None or look.sight.identity != self.settled:
                self.settled = None
                async with self.gate:
                    await self._settle_on(look, lost)
            elif not self._made_anew:
                await self._make_all()
            else:
                await self._look_for_users(now)
                if self._changed or self._groups_changed:
                    await self._make_groups()
                    await self._make({bot_id: self.hashes[bot_id] for bot_id in self._changed if bot_id in self.hashes})
            if self._also is not None:
                await self._also(False)
            if lost is None:
                self._last = Last(look.sight, now, await look.beat(wall))
        await self._write_down()

    async def _look_for_users(self, now: float) -> None:
        """ACL DELUSER, or a file of somebody else's that was loaded: the server goes on with its data."""
        if now - self._users_at < USERS_EVERY:
            return
        self._users_at = now
        there = await self._admin.known_bots()
        if missing := self.hashes.keys() - there - self._changed:
            _log.warning("redis has no users for bots any more; they are made again", bot_ids=sorted(missing))
            self._changed |= missing

    async def _settle_on(self, look: Look, lost: Loss | None) -> None:
        """Make everything on this server, and know it from then on. The order is what nothing is lost by."""
        if lost is None:
            await self._make_all()
            self.settled = look.sight.identity
            return
        async with self.relay_gate:
            await look.begin()
            # What is on its way was read before the loss, and must not get in before what is due again.
            await self._admin.shut_out(self.hashes.keys() | await self._admin.known_bots())
            if self._recover is not None:
                await self._recover(lost)
            await self._make_all()
            sight = await look.know(time.time())
        if self._last is not None:
            _log.warning("redis began anew; users, streams and groups were made again", bots=len(self.hashes))
        self._last = Last(sight, time.monotonic(), sight.beat)
        self.settled = sight.identity

    async def _make_all(self) -> None:
        await self._admin.ensure_logs()
        await self._make_groups()
        await self._make(dict(self.hashes))
        if self.complete:
            for stranger in await self._admin.known_bots() - self.hashes.keys():
                await self._admin.drop_user(stranger)
        if self._also is not None:
            await self._also(True)
        self._made_anew = True

    async def _write_down(self) -> None:
        """Again what the server could not write; while it can't, a user that was dropped may come back for a moment."""
        if self._admin.unsaved:
            if not self._told_unsaved:
                _log.warning("redis can't write its users down; after a crash it knows older ones")
            self._told_unsaved = True
            await self._admin.save_users()
        if not self._admin.unsaved:
            self._told_unsaved = False

    async def _make_groups(self) -> None:
        if self._groups is not None:
            await self._admin.ensure_groups(self._groups)
            self._groups_changed = False

    async def _make(self, wanted: dict[int, str]) -> None:
        if wanted:
            await self._admin.ensure_bots(
                {bot_id: self._previous.accepted(bot_id, hashed) for bot_id, hashed in wanted.items()},
                self._memberships,
            )
            if leaving := self._leaving & wanted.keys():
                await self._admin.cut_off(leaving)
                self._leaving -= leaving
        for bot_id, hashed in wanted.items():
            if self.hashes.get(bot_id) == hashed:
                self._changed.discard(bot_id)
