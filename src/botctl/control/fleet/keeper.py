"""Makes a fleet the wanted one: registry and credentials first, then the supervisor. One change at a time.

What fails for one bot is told, and tried again, without stopping the others. A `control` that replaces another resumes
from its predecessor's note and touches nothing that has not changed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bus.routing.roster import Roster
from botctl.control.bus.keeper import BusKeeper
from botctl.control.fleet.applied import AppliedNote, FleetSource, told
from botctl.control.fleet.registering import Also, register
from botctl.control.fleet.roster import groups_of, roster_of
from botctl.control.fleet.wanted import Surroundings, wanted_bot
from botctl.control.ports import SupervisorPort, WantedFleet
from botctl.control.secrets.credentials import CredentialKeeper
from botctl.control.secrets.vault import Vault
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError, database_reason
from botctl.control.views import AppliedBody
from botctl.errors import BotctlError, NoSuchBotError, UsageError
from botctl.fleet import BotSpec, Fleet, FleetDiff, diff_fleets, load_fleet
from botctl.fleet.model import Updates
from botctl.handover import WebhookTarget
from botctl.storage import quarantines
from botctl.storage.quarantines import Quarantined

_log = structlog.get_logger("botctl.control.fleet")

_REDIS_TIMEOUT = 2.0
"""Seconds that applying waits for Redis; bots start without it and connect when it is back."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0


async def _nothing(fleet: Fleet, names: Collection[str]) -> None:
    """What is done before bots are started, by default."""


class FleetKeeper:
    """`fleet` is what is wanted; `failed` the bots that lack credentials, by name, with the reason.

    `before_start` is called with the new fleet and the names of the bots that it makes start or restart.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        bus: BusKeeper,
        supervisor: SupervisorPort,
        around: Surroundings,
        before_start: Callable[[Fleet, Collection[str]], Awaitable[None]] = _nothing,
        vault: Vault | None = None,
    ) -> None:
        self.vault = vault or Vault()
        self.fleet: Fleet | None = None
        self.awaited: Fleet | None = None
        """A daemon's first fleet, which is the wanted one once the database has taken it."""
        self.failed: dict[str, str] = {}
        self.generation = 0
        self.credentials = CredentialKeeper(engine, bus, supervisor.rotate)
        self.shut: dict[int, Quarantined] = {}
        """Bots that are shut away on purpose, by bot_id."""
        self.ignored: dict[int, dict[int, float]] = {}
        """Users that a bot sets aside for a time, and until when (epoch), by bot_id."""
        self.credentials.barred = self.shut
        self.before_desire: Callable[[], None] = lambda: None
        """Called before the supervisor is told of the wanted fleet."""
        self.orphans: Callable[[], frozenset[int]] = frozenset
        """Gives bots that have long gone and whose events are still to be routed."""
        self._presumed: set[int] = set()
        """Of these, whose reason the registry may know better."""
        self._knows_shut = False
        self._known_to_router: tuple[Fleet | None, frozenset[int]] = (None, frozenset())
        self._roster = Roster()
        self._source = FleetSource()
        self._engine = engine
        self._bus = bus
        self._supervisor = supervisor
        self._around = around
        self._before_start = before_start
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()

    async def apply(self, fleet: Fleet, source: FleetSource, *, dry_run: bool = False) -> AppliedBody:
        """Make `fleet` the wanted one. Raises DatabaseAwayError; nothing is changed then."""
        async with self._changing():
            await self._open_vault()
            fleet = self.vault.effective(fleet)
            self._refuse_unreachable(fleet)
            if dry_run:
                return told(diff_fleets(self.fleet or Fleet(), fleet), dry_run=True)
            return await self._apply(fleet, source)

    async def _apply(self, fleet: Fleet, source: FleetSource, *also: Also) -> AppliedBody:
        """`also` is done in the same transaction."""
        diff = diff_fleets(self.fleet or Fleet(), fleet)

        async def load(connection: AsyncConnection) -> None:
            await self._load_shut(connection)
            await self.credentials.load(connection, {bot.bot_id for bot in fleet.bots})

        await register(self._engine, fleet, diff, load, *also)
        starting = self._starting(fleet, diff)
        self.fleet, self._source = fleet, source
        await self._provide()
        await self._before_start(fleet, starting)
        await self._desire()
        _log.info(
            "fleet applied",
            added=list(diff.added),
            removed=list(diff.removed),
            changed=list(diff.changed),
            failed=sorted(self.failed),
        )
        self._wake.set()
        return told(diff, failed=self.failed)

    async def reload(self) -> AppliedBody:
        """Read the file again and apply it. Raises InvalidFileError; nothing is changed then."""
        source = self._source
        if source.path is None:
            raise UsageError(
                "this fleet was not read from a file", hint="Give the daemon one with `botctl apply --fleet FILE`."
            )
        fleet = await asyncio.to_thread(load_fleet, Path(source.path), source.env)
        return await self.apply(fleet, source)

    async def replace_token(self, name: str, token: str) -> AppliedBody:
        """Give a bot a new token, in the place of what the file has now; the bot is restarted with it.

        Raises NoSuchBotError, VaultError, and DatabaseAwayError: nothing is changed then.
        """
        async with self._changing():
            await self._open_vault()
            bot = self.bot(name)
            if bot is None or self.fleet is None:
                raise NoSuchBotError(f"no bot is called {name!r}")
            changed, rotated = self.vault.with_token(bot, token)
            bots = tuple(changed if one.bot_id == bot.bot_id else one for one in self.fleet.bots)

            async def save(connection: AsyncConnection) -> None:
                await self.vault.save_token(connection, bot.bot_id, rotated)

            applied = await self._apply(self.fleet.model_copy(update={"bots": bots}), self._source, save)
            self.vault.took(bot.bot_id, rotated)
            return applied

    async def renew_key(self, name: str) -> int:
        """Make a new data key for a bot and hand it over; its number. Raises as `replace_token` does."""
        async with self._changing():
            await self._open_vault()
            bot = self.bot(name)
            if bot is None:
                raise NoSuchBotError(f"no bot is called {name!r}")
            key = await self.vault.renew(self._engine, bot.bot_id)
            await self._desire()
            return key.key_id

    async def renew_credentials(self, bot_ids: Collection[int]) -> dict[str, str]:
        """New passwords for these bots, while they run; by name those that still lack them, and why: they are tried on.

        Bots that are shut away are left out. Raises DatabaseAwayError.
        """
        async with self._changing():
            if self.fleet is None:
                return {}
            concerned = {bot.bot_id: bot.name for bot in self.fleet.bots if bot.bot_id in bot_ids}
            asked = self.credentials.rotate(concerned)
            try:
                await self._provide()
                await self.vault.webhooks.renew(self._engine, concerned, waits=True)
            except BaseException:
                self.credentials.rotate_not(asked)  # whoever gave up does not want it done later
                raise
            await self._desire()
            self._wake.set()
            return {name: self.failed[name] for name in concerned.values() if name in self.failed}

    async def renew_webhook(self, name: str) -> None:
        """Make a new webhook secret for a bot, which tells Telegram; the old one is accepted until Telegram uses it.

        Raises NoSuchBotError, UsageError for one that polls, VaultError, DatabaseAwayError.
        """
        async with self._changing():
            await self._open_vault()
            bot = self.bot(name)
            if bot is None:
                raise NoSuchBotError(f"no bot is called {name!r}")
            if bot.updates is not Updates.WEBHOOK:
                raise UsageError(f"{name} asks Telegram for its updates: it has no webhook")
            await self.vault.webhooks.renew(self._engine, [bot.bot_id])
            await self._desire()

    async def settle_webhook(self, bot_id: int) -> None:
        """Telegram uses the newest secret of this bot. Raises DatabaseAwayError, VaultError."""
        async with self._changing():
            await self.vault.webhooks.settle(self._engine, bot_id)

    async def keep_webhook_way(self, bot_id: int, token: str, proxy: str) -> None:
        """What it takes to take this bot's webhook away, or that it is gone. Raises DatabaseAwayError, VaultError."""
        async with self._changing():
            await self.vault.webhooks.keep_way(self._engine, bot_id, token, proxy)

    @property
    def webhook(self) -> WebhookTarget | None:
        """What all bots are told of the ingress, without their secrets and ids."""
        return self._around.webhook

    async def hold(self) -> None:
        """Have the next `control` know the master keys that are in use now."""
        async with self._lock:
            if self.fleet is not None:
                await self._desire()

    async def start(self, fleet: Fleet, source: FleetSource) -> None:
        """Apply the first fleet of a daemon; while that is impossible, try again."""
        wait = _FIRST_WAIT
        while self.fleet is None:
            try:
                await self.apply(fleet, source)
            except BotctlError as error:
                _log.warning("the fleet can't be applied yet", reason=error.message)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    def resume(self, note: bytes, held: Mapping[int, int]) -> None:
        """Go on where the last `control` ended. Raises ValueError for a note it can't read."""
        applied = msgspec.json.decode(note, type=AppliedNote)
        self.fleet = Fleet.model_validate_json(bytes(applied.fleet))
        self.generation = applied.generation
        self._source = FleetSource(applied.path, applied.env)
        self._bus.share(self.fleet.groups, groups_of(self.fleet))
        self.credentials.hold(held)
        self.vault.resume(applied.master_keys)
        self.vault.webhooks.resume(applied.webhooks)
        self.ignored = applied.ignored
        self._wake.set()

    def bot(self, name: str) -> BotSpec | None:
        """The wanted bot of this name."""
        return self.fleet.by_name(name) if self.fleet is not None else None

    def by_id(self, bot_id: int) -> BotSpec | None:
        """The wanted bot of this id."""
        return next((bot for bot in self.fleet.bots if bot.bot_id == bot_id), None) if self.fleet is not None else None

    def presume_shut(self, bot_id: int, told: Quarantined) -> None:
        """A bot is shut away; why, the registry may know better."""
        self.shut[bot_id] = told
        self._presumed.add(bot_id)

    async def bar(self, bot_id: int) -> None:
        """Drop the Redis user of a bot that is in `shut`. Raises what Redis raises when it is away."""
        await self._bus.bar(bot_id)

    async def ignore(self, bot_id: int, user_id: int, until: float) -> None:
        """Have a bot set the updates of this user aside, without a restart."""
        async with self._lock:
            self.ignored.setdefault(bot_id, {})[user_id] = until
            if self.fleet is not None:
                await self._desire()

    def ignored_now(self, now: float) -> dict[int, dict[int, float]]:
        """Those whose time is not over, by bot_id."""
        left = {
            bot_id: {one: till for one, till in users.items() if till > now} for bot_id, users in self.ignored.items()
        }
        return {bot_id: users for bot_id, users in left.items() if users}

    async def know_canary(self, digest: str) -> None:
        """Have bots know a canary's word when it is about to leave them, by its digest."""
        async with self._lock:
            if digest != self._around.canary:
                self._around = dataclasses.replace(self._around, canary=digest)
                if self.fleet is not None:
                    await self._desire()

    async def know_certificate(self, pem: str) -> None:
        """Have bots give Telegram this certificate with their webhooks."""
        async with self._lock:
            webhook = self._around.webhook
            if webhook is not None and webhook.certificate != pem:
                webhook = msgspec.structs.replace(webhook, certificate=pem)
                self._around = dataclasses.replace(self._around, webhook=webhook)
                if self.fleet is not None:
                    await self._desire()

    async def settled(self) -> bool:
        """Wait for the change that is under way, if there is one; whether the registry has been read since."""
        async with self._lock:
            return self._knows_shut

    async def readmit(self, bot_id: int) -> None:
        """A bot that was shut away gets new credentials, and the supervisor has it again. Raises DatabaseAwayError."""
        async with self._changing():
            async with self._engine.begin() as connection:
                await quarantines.save(connection, bot_id, None)
            self.shut.pop(bot_id, None)
            self.credentials.revoke(bot_id)
            if self.fleet is None:
                return
            await self._provide()
            await self._desire()

    def roster(self) -> Roster:
        """Every bot with an out stream and what it subscribes to; the same object as long as nothing has changed."""
        known = (self.fleet, frozenset(self.credentials.retiring) | self.orphans())
        if self._known_to_router[0] is not known[0] or self._known_to_router[1] != known[1]:
            self._known_to_router, self._roster = known, roster_of(*known)
        return self._roster

    async def run(self) -> None:
        """Give credentials to those who lack them, take them from those who have gone; until cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                open_ends = await self._settle()
            except DATABASE_TROUBLE as error:
                _log.warning("the registry can't be brought up to date", reason=database_reason(error))
                open_ends = True
            wait = min(wait * 2, _LONGEST_WAIT) if open_ends else _FIRST_WAIT
            try:
                async with asyncio.timeout(wait if open_ends else None):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _settle(self) -> bool:
        """One round; whether something remains to be done."""
        async with self._lock:
            if self.fleet is None:
                return False
            if not self.credentials.loaded:
                async with self._engine.connect() as connection:
                    await self._load_shut(connection)
                    await self.credentials.load(connection, [bot.bot_id for bot in self.fleet.bots])
            await self._open_vault()
            lacking = [bot.name for bot in self.fleet.bots if self._lacks(bot)]
            if lacking:
                await self._provide()
            if (lacking and len(self.failed) < len(lacking)) or self.vault.owed(bot.bot_id for bot in self.fleet.bots):
                await self._desire()
            if self.credentials.retiring:
                await self.credentials.retire(await self._supervisor.sight())
            return bool(self.failed or self.credentials.retiring)

    # --- steps, under the lock -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """One change at a time, and the database's trouble told as it is to an operator."""
        async with self._lock:
            try:
                yield
            except DATABASE_TROUBLE as error:
                raise DatabaseAwayError(error) from error

    async def _open_vault(self) -> None:
        if not self.vault.loaded:
            async with self._engine.connect() as connection:
                await self.vault.load(connection)

    async def _load_shut(self, connection: AsyncConnection) -> None:
        """Once: from then on it is known here first."""
        if not self._knows_shut:
            for bot_id, told in (await quarantines.read(connection)).items():
                if bot_id in self._presumed:
                    self.shut[bot_id] = told
                self.shut.setdefault(bot_id, told)
            self._knows_shut = True

    def _refuse_unreachable(self, fleet: Fleet) -> None:
        named = [bot.name for bot in fleet.bots if bot.updates is Updates.WEBHOOK]
        if named and self._around.webhook is None:
            raise UsageError(
                f"{', '.join(named)}: updates: webhook, and the daemon's settings have no [webhook]",
                hint="config/botctl.example.toml shows it; the daemon reads its settings when it starts.",
            )

    def _lacks(self, bot: BotSpec) -> bool:
        return self.credentials.lacks(bot.bot_id) or self.vault.lacks(bot.bot_id) or not self._has_webhook(bot)

    def _has_webhook(self, bot: BotSpec) -> bool:
        """Whether Telegram can be told where to send its updates, if it is to be."""
        known = self.vault.webhooks.get(bot.bot_id)
        return bot.updates is Updates.POLLING or (known is not None and self._around.webhook is not None)

    def _starting(self, fleet: Fleet, diff: FleetDiff) -> set[str]:
        """Names of the bots that will be started or restarted; some changes need no restart."""
        found = set(diff.added)
        for name in diff.changed:
            old, new = self.bot(name), fleet.by_name(name)
            if old is None or new is None or self.fleet is None or old.enabled != new.enabled:
                found.add(name)
                continue
            before = wanted_bot(old, self.fleet, self._around, None)
            if before.digest != wanted_bot(new, fleet, self._around, None).digest:
                found.add(name)
        return found

    async def _provide(self) -> None:
        assert self.fleet is not None
        failed = await self.credentials.provide({bot.bot_id: bot.name for bot in self.fleet.bots})
        self.failed = failed | await self.vault.provide(self._engine, self.fleet.bots)

    async def _desire(self) -> None:
        """Tell the supervisor. Bots that never had credentials wait until they have some."""
        assert self.fleet is not None
        self.before_desire()
        self._bus.share(self.fleet.groups, groups_of(self.fleet))
        await self._bus.settle(_REDIS_TIMEOUT)
        self.generation += 1
        ready = [bot for bot in self.fleet.bots if self._may_run(bot)]
        self.ignored = self.ignored_now(time.time())
        fresh, replaced = self.credentials.hand_over(bot.bot_id for bot in ready)
        note = AppliedNote(
            generation=self.generation,
            fleet=msgspec.Raw(self.fleet.model_dump_json().encode()),
            path=self._source.path,
            env=dict(self._source.env),
            master_keys=self.vault.note,
            ignored=self.ignored,
            webhooks=self.vault.webhooks.note,
        )
        self._supervisor.desire(
            WantedFleet(
                generation=self.generation,
                bots=tuple(
                    wanted_bot(
                        bot,
                        self.fleet,
                        self._around,
                        fresh.get(bot.bot_id),
                        self.vault.words(bot.bot_id),
                        self.ignored.get(bot.bot_id, {}),
                        self._webhook_secret(bot.bot_id),
                    )
                    for bot in ready
                ),
                applied=msgspec.json.encode(note),
            )
        )
        self.vault.handed_over(bot.bot_id for bot in ready)
        for bot_id, passwords in replaced.items():
            self._supervisor.rotate(bot_id, passwords)

    def _webhook_secret(self, bot_id: int) -> str:
        known = self.vault.webhooks.get(bot_id)
        return known.current if known is not None else ""

    def _may_run(self, bot: BotSpec) -> bool:
        """Whether it has, or is about to get, all it needs. One that asks for sealed messages never runs without."""
        sealed = self.vault.masters is not None or not bot.encrypt_messages
        sealed = sealed and self._has_webhook(bot)
        return sealed and self.credentials.has(bot.bot_id) and self.vault.ready(bot.bot_id)
