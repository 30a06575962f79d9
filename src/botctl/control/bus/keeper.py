"""Keeps Redis as the fleet needs it: streams, groups and a user a bot, made again whenever the server has lost them.

Lives without Redis: what could not be done is done when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from botctl.bus.backoff import Backoff
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import AWAY, reason
from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.bus")

CHECK_EVERY = 1.0
ALL = 3600.0
"""Seconds of events that a server without our data has lost, as far back as they are kept for that (design §5)."""

PREVIOUS_FOR = 60.0
"""Seconds for which a bot may still log in with the password it had before."""

LATEST = 5.0
"""Seconds before its end that a server, restarted or replaced by its replica, may not have written down."""


class BusKeeper:
    """`hashes` are the SHA-256 of the Redis password of every bot that shall have a user, by bot_id.

    `on_lost` is told how many seconds of events the server may have lost. `also` makes what others need: it is told
    whether the server may know nothing of it, and is asked at each look.
    """

    def __init__(
        self,
        admin: BusAdmin,
        *,
        on_lost: Callable[[float], None] | None = None,
        also: Callable[[bool], Awaitable[None]] | None = None,
    ) -> None:
        self._also = also
        self.hashes: dict[int, str] = {}
        self.complete = False
        """Whether `hashes` has been filled from the registry: until then no user is dropped as unknown."""
        self.problem: str | None = "redis: not looked at yet"
        self._admin = admin
        self._changed: set[int] = set()
        self._previous: dict[int, tuple[str, float]] = {}
        """Hash of the password before, and until when it is valid."""
        self._groups: frozenset[str] | None = None
        """Groups that there shall be; None as long as nobody has said."""
        self._memberships: dict[int, tuple[str, ...]] = {}
        self._leaving: set[int] = set()
        """Bots that are no longer of a group they were of: their connections end with their rights."""
        self._groups_changed = False
        self._known_run: str | None = None
        """None when users are to be made anew."""
        self._seen: tuple[str, float] | None = None
        """The run id when last looked at, and when that was."""
        self._told_unsaved = False
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._on_lost = on_lost

    def set(self, bot_id: int, password_sha256: str, previous_sha256: str = "") -> None:
        """The bot has this password from now on, and the previous one for a while."""
        self.hashes[bot_id] = password_sha256
        self._previous.pop(bot_id, None)
        if previous_sha256:
            self._previous[bot_id] = (previous_sha256, time.monotonic() + PREVIOUS_FOR)
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
        self._known_run = None
        self._wake.set()

    async def drop(self, bot_id: int) -> None:
        """The bot has no user any more. If Redis is away now, the user goes when it is back."""
        self.hashes.pop(bot_id, None)
        self._previous.pop(bot_id, None)
        self._changed.discard(bot_id)
        try:
            await self._admin.drop_bot(bot_id)
        except AWAY:
            self._known_run = None

    async def bar(self, bot_id: int) -> None:
        """The bot's user goes, with its connections; its mailbox stays. Raises what Redis raises when it is away."""
        self.hashes.pop(bot_id, None)
        self._previous.pop(bot_id, None)
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

    async def _look_and_repair(self) -> None:
        self._withdraw()
        run = await self._admin.run_id()
        lost = self._lost(run)
        if run != self._known_run:
            await self._admin.ensure_logs()
            await self._make_groups()
            await self._make(dict(self.hashes))
            if self.complete:
                for stranger in await self._admin.known_bots() - self.hashes.keys():
                    await self._admin.drop_user(stranger)
            if self._also is not None:
                await self._also(True)
            self._known_run = await self._admin.run_id()
            run = self._known_run
            if lost and self._seen is not None:
                _log.warning("redis began anew; users, streams and groups were made again", bots=len(self.hashes))
            if lost and self._on_lost is not None:
                self._on_lost(lost)
        elif self._changed or self._groups_changed:
            await self._make_groups()
            await self._make({bot_id: self.hashes[bot_id] for bot_id in self._changed if bot_id in self.hashes})
        if self._also is not None and run == self._known_run:
            await self._also(False)
        self._seen = (run, time.monotonic())
        await self._write_down()

    async def _write_down(self) -> None:
        """Again what the server could not write; while it can't, a user that was dropped may come back for a moment."""
        if self._admin.unsaved:
            if not self._told_unsaved:
                _log.warning("redis can't write its users down; after a crash it knows older ones")
            self._told_unsaved = True
            await self._admin.save_users()
        if not self._admin.unsaved:
            self._told_unsaved = False

    def _withdraw(self) -> None:
        """Previous passwords whose time is over."""
        now = time.monotonic()
        for bot_id in [bot_id for bot_id, (_, until) in self._previous.items() if until <= now]:
            del self._previous[bot_id]
            self._changed.add(bot_id)

    def _accepted(self, bot_id: int, hashed: str) -> list[str]:
        previous = self._previous.get(bot_id)
        return [hashed] if previous is None else [hashed, previous[0]]

    def _lost(self, run: str) -> float:
        """Seconds of events that may be lost on this server. Without the marker among our data: all of them."""
        marker = run.rpartition(":")[2]
        if self._seen is None:
            return ALL if marker == "-" else 0.0
        known, at = self._seen
        if run == known:
            return 0.0
        return ALL if marker != known.rpartition(":")[2] else time.monotonic() - at + LATEST

    async def _make_groups(self) -> None:
        if self._groups is not None:
            await self._admin.ensure_groups(self._groups)
            self._groups_changed = False

    async def _make(self, wanted: dict[int, str]) -> None:
        if wanted:
            await self._admin.ensure_bots(
                {bot_id: self._accepted(bot_id, hashed) for bot_id, hashed in wanted.items()}, self._memberships
            )
            if leaving := self._leaving & wanted.keys():
                await self._admin.cut_off(leaving)
                self._leaving -= leaving
        for bot_id, hashed in wanted.items():
            if self.hashes.get(bot_id) == hashed:
                self._changed.discard(bot_id)
