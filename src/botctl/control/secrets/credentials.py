"""Credentials of bots: made for who lacks them, handed on once, taken from who has gone. Never writes a password down.

A bot that runs gets new ones together with those it has, and only then are they altered: it can log in at any moment.

Every method that takes a connection or uses the engine may raise what the database raises.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.bus.keeper import BusKeeper
from botctl.control.ports import FleetSight, Passwords
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import logins, registry
from botctl.storage.registry import StoredCredentials
from botctl.storage.scram import new_password

_log = structlog.get_logger("botctl.control.credentials")

GRACE = 0.5
"""Seconds between giving a running bot new credentials and altering them; the way there takes milliseconds."""

_REDIS_TIMEOUT = 2.0


class CredentialKeeper:
    """`retiring` are removed bots that still have a login; `loaded` says whether the registry was ever read.

    `deliver` gives credentials to a bot that may be running.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        bus: BusKeeper,
        deliver: Callable[[int, Passwords], None],
        *,
        grace: float = GRACE,
    ) -> None:
        self.loaded = False
        self.retiring: set[int] = set()
        self._engine = engine
        self._bus = bus
        self._held: dict[int, int] = {}
        self._minted: dict[int, Passwords] = {}
        self._deliver = deliver
        self._grace = grace
        self._given: dict[int, Passwords] = {}
        """What this control has given to the supervisor."""
        self._delivered: dict[int, Passwords] = {}
        """Given to running bots and not yet altered."""
        self._stored: dict[int, StoredCredentials] = {}
        self._due: set[int] = set()
        """To get new ones although those they have are good."""
        self.barred: Mapping[int, object] = {}
        """Bots that are shut away: they get no credentials."""

    def hold(self, held: Mapping[int, int]) -> None:
        """The supervisor has these generations, by bot_id."""
        self._held = dict(held)

    def has(self, bot_id: int) -> bool:
        """Whether the supervisor has, or is about to get, credentials of this bot."""
        return bot_id in self._held or bot_id in self._minted

    def lacks(self, bot_id: int) -> bool:
        """Whether it needs new ones: the supervisor has none, or none that the database knows."""
        if bot_id in self._minted or bot_id in self.barred:
            return False
        return bot_id in self._due or not self._holds_known(bot_id)

    def rotate(self, bot_ids: Iterable[int]) -> set[int]:
        """These lack new ones from now on, whatever they have; who did not before."""
        fresh = {bot_id for bot_id in bot_ids if bot_id not in self.barred} - self._due
        self._due |= fresh
        return fresh

    def rotate_not(self, bot_ids: Iterable[int]) -> None:
        """Those of them to whom none are on their way keep what they have."""
        self._due -= set(bot_ids) - self._delivered.keys()

    def older_than(self, moment: float) -> list[int]:
        """Bots whose credentials are from before (epoch), the oldest first."""
        old = [one for one in self._stored.values() if one.redis_password_sha256 and one.rotated_at < moment]
        return [one.bot_id for one in sorted(old, key=lambda one: one.rotated_at) if one.bot_id not in self.barred]

    async def load(self, connection: AsyncConnection, wanted: Iterable[int]) -> None:
        """Read what the registry knows; removed bots that still have a login are to be retired."""
        removed = {bot.bot_id for bot in await registry.read_bots(connection) if bot.removed}
        self._stored = await registry.read_credentials(connection)
        alive = {one.bot_id: one.redis_password_sha256 for one in self._stored.values() if one.redis_password_sha256}
        self._bus.load({bot_id: hashed for bot_id, hashed in alive.items() if bot_id not in self.barred})
        self.retiring = (removed & alive.keys()) - set(wanted)
        self.loaded = True

    async def provide(self, bots: Mapping[int, str]) -> dict[str, str]:
        """Make credentials for those of these bots (names by bot_id) that lack them; who still does, and why."""
        failed: dict[str, str] = {}
        lacking = {bot_id: name for bot_id, name in bots.items() if self.lacks(bot_id)}
        await self._announce(lacking)
        for bot_id, name in lacking.items():
            if bot_id in self.barred:
                continue  # shut away meanwhile
            try:
                await self._mint(bot_id)
            except DATABASE_TROUBLE as error:
                failed[name] = database_reason(error)
                _log.error("no credentials could be made", bot=name, reason=failed[name])
        return failed

    def revoke(self, bot_id: int) -> None:
        """Those it has are worth nothing any more; it lacks new ones."""
        for known in (self._held, self._minted, self._given, self._delivered):
            known.pop(bot_id, None)

    def hand_over(self, bot_ids: Iterable[int]) -> tuple[dict[int, Passwords], dict[int, Passwords]]:
        """New passwords of these bots, for the supervisor to hold from now on; and those that replace others."""
        wanted = set(bot_ids)
        self._given = {bot_id: passwords for bot_id, passwords in self._given.items() if bot_id in wanted}
        fresh = {bot_id: passwords for bot_id, passwords in self._minted.items() if bot_id in wanted}
        replaced = {
            bot_id: passwords
            for bot_id, passwords in fresh.items()
            if bot_id in self._held and self._given.get(bot_id) is not passwords
        }
        self._given |= fresh
        self._held = {bot_id: generation for bot_id, generation in self._held.items() if bot_id in wanted}
        self._held |= {bot_id: passwords.generation for bot_id, passwords in fresh.items()}
        self._minted = {}
        return fresh, replaced

    async def retire(self, sight: FleetSight) -> None:
        """Drop the logins of removed bots that the supervisor has let end in peace."""
        for bot_id in sorted(self.retiring):
            if sight.bot(bot_id) is not None:
                continue
            stored = self._stored.get(bot_id)
            blank = StoredCredentials(bot_id, stored.generation if stored is not None else 1, "")
            async with self._engine.begin() as connection:
                await logins.drop_login(connection, bot_id)
                await registry.save_credentials(connection, blank)
            self._stored[bot_id] = blank
            self._given.pop(bot_id, None)
            self._delivered.pop(bot_id, None)
            await self._bus.drop(bot_id)
            self.retiring.discard(bot_id)
            _log.info("login of a removed bot dropped", bot_id=bot_id)

    async def _announce(self, bot_ids: Iterable[int]) -> None:
        """Give running bots their new credentials beside those they have, and a moment to take them.

        Where the supervisor alone knows those, it adds them by itself. When they are none that the database knows, this
        is left out: nothing would be good for anything until the new ones are.
        """
        fresh: dict[int, Passwords] = {}
        for bot_id in bot_ids:
            before, stored = self._given.get(bot_id), self._stored.get(bot_id)
            if bot_id not in self._held or bot_id in self._delivered:
                continue
            if before is not None:
                previous = _sha256(before.redis)
            elif stored is not None and self._holds_known(bot_id):
                previous = stored.redis_password_sha256
            else:
                continue
            fresh[bot_id] = self._new(bot_id, before)
            self._bus.set(bot_id, _sha256(fresh[bot_id].redis), previous)
        if not fresh:
            return
        await self._bus.settle(_REDIS_TIMEOUT)
        for bot_id, passwords in fresh.items():
            self._deliver(bot_id, passwords)
        self._delivered |= fresh
        self._given |= fresh
        await asyncio.sleep(self._grace)

    def _holds_known(self, bot_id: int) -> bool:
        """Whether what the supervisor has is what the database knows."""
        stored = self._stored.get(bot_id)
        return bot_id in self._held and stored is not None and stored.generation == self._held[bot_id]

    def _new(self, bot_id: int, before: Passwords | None = None) -> Passwords:
        last = self._stored.get(bot_id)
        return Passwords(
            generation=max(last.generation if last is not None else 0, self._held.get(bot_id, 0)) + 1,
            database=new_password(),
            redis=new_password(),
            previous_database=before.database if before is not None else "",
            previous_redis=before.redis if before is not None else "",
        )

    async def _mint(self, bot_id: int) -> None:
        passwords = self._delivered.get(bot_id) or self._new(bot_id)
        stored = StoredCredentials(bot_id, passwords.generation, _sha256(passwords.redis), time.time())
        async with self._engine.begin() as connection:
            await logins.ensure_login(connection, bot_id, passwords.database)
            await registry.save_credentials(connection, stored)
        self._stored[bot_id] = stored
        self._minted[bot_id] = passwords
        self._due.discard(bot_id)
        if self._delivered.pop(bot_id, None) is None:
            self._bus.set(bot_id, stored.redis_password_sha256)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
