"""Makes a fleet the wanted one: registry and credentials first, then the supervisor. One change at a time.

What fails for one bot is told, and tried again, without stopping the others. A `control` that replaces another resumes
from its predecessor's note and touches nothing that has not changed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.events import event_id
from botctl.control.bus_keeper import BusKeeper
from botctl.control.credential_keeper import CredentialKeeper
from botctl.control.ports import SupervisorPort, WantedFleet
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError, database_reason
from botctl.control.views import AppliedBody
from botctl.control.wanted import Surroundings, fingerprint, public_config, wanted_bot
from botctl.errors import BotctlError, UsageError
from botctl.fleet import BotSpec, Fleet, FleetDiff, diff_fleets, load_fleet
from botctl.storage import registry
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.registry import RegisteredBot

_log = structlog.get_logger("botctl.control.fleet")

_REDIS_TIMEOUT = 2.0
"""Seconds that applying waits for Redis; bots start without it and connect when it is back."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0


@dataclass(frozen=True)
class FleetSource:
    """Where a fleet was read from, so that a reload can read it again."""

    path: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class AppliedNote(msgspec.Struct, frozen=True, kw_only=True):
    """What one `control` leaves for the next, in the supervisor's keeping."""

    generation: int
    fleet: msgspec.Raw
    path: str | None
    env: dict[str, str]


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
    ) -> None:
        self.fleet: Fleet | None = None
        self.failed: dict[str, str] = {}
        self.generation = 0
        self.credentials = CredentialKeeper(engine, bus, supervisor.rotate)
        self._source = FleetSource()
        self._engine = engine
        self._bus = bus
        self._supervisor = supervisor
        self._around = around
        self._before_start = before_start
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._outbox = Outbox(0)

    async def apply(self, fleet: Fleet, source: FleetSource, *, dry_run: bool = False) -> AppliedBody:
        """Make `fleet` the wanted one. Raises DatabaseAwayError; nothing is changed then."""
        async with self._lock:
            diff = diff_fleets(self.fleet or Fleet(), fleet)
            if dry_run:
                return _told(diff, dry_run=True)
            try:
                await self._register(fleet, diff)
            except DATABASE_TROUBLE as error:
                raise DatabaseAwayError(error) from error
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
        return _told(diff, failed=self.failed)

    async def reload(self) -> AppliedBody:
        """Read the file again and apply it. Raises InvalidFileError; nothing is changed then."""
        source = self._source
        if source.path is None:
            raise UsageError(
                "this fleet was not read from a file", hint="Give the daemon one with `botctl apply --fleet FILE`."
            )
        fleet = await asyncio.to_thread(load_fleet, Path(source.path), source.env)
        return await self.apply(fleet, source)

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
        self.credentials.hold(held)
        self._wake.set()

    def bot(self, name: str) -> BotSpec | None:
        """The wanted bot of this name."""
        return self.fleet.by_name(name) if self.fleet is not None else None

    def subscribers(self) -> dict[int, tuple[str, ...]]:
        """Every bot with an out stream, by bot_id, and the event types it subscribes to."""
        leaving: dict[int, tuple[str, ...]] = dict.fromkeys(self.credentials.retiring, ())
        if self.fleet is None:
            return leaving
        return leaving | {bot.bot_id: bot.subscribe for bot in self.fleet.bots}

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
                    await self.credentials.load(connection, [bot.bot_id for bot in self.fleet.bots])
            lacking = [bot.name for bot in self.fleet.bots if self.credentials.lacks(bot.bot_id)]
            if lacking:
                await self._provide()
                if len(self.failed) < len(lacking):
                    await self._desire()
            if self.credentials.retiring:
                await self.credentials.retire(await self._supervisor.sight())
            return bool(self.failed or self.credentials.retiring)

    # --- steps, under the lock -------------------------------------------------------------------------------------

    async def _register(self, fleet: Fleet, diff: FleetDiff) -> None:
        wanted = {bot.bot_id for bot in fleet.bots}
        async with self._engine.begin() as connection:
            known = [bot for bot in await registry.read_bots(connection) if not bot.removed]
            foreign = {bot.bot_id for bot in known if bot.managed_by != "file"}
            if clash := [bot.name for bot in fleet.bots if bot.bot_id in foreign]:
                raise UsageError(
                    f"managed through the API already: {', '.join(clash)}", hint="Take them from the file."
                )
            await registry.save_bots(connection, [_row(bot) for bot in fleet.bots])
            await registry.mark_removed(connection, {bot.bot_id for bot in known} - wanted - foreign)
            if not diff.empty:
                await self._outbox.add(connection, [_config_updated(diff)])
            await self.credentials.load(connection, wanted)

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
        self.failed = await self.credentials.provide({bot.bot_id: bot.name for bot in self.fleet.bots})

    async def _desire(self) -> None:
        """Tell the supervisor. Bots that never had credentials wait until they have some."""
        assert self.fleet is not None
        await self._bus.settle(_REDIS_TIMEOUT)
        self.generation += 1
        ready = [bot for bot in self.fleet.bots if self.credentials.has(bot.bot_id)]
        fresh, replaced = self.credentials.hand_over(bot.bot_id for bot in ready)
        note = AppliedNote(
            generation=self.generation,
            fleet=msgspec.Raw(self.fleet.model_dump_json().encode()),
            path=self._source.path,
            env=dict(self._source.env),
        )
        self._supervisor.desire(
            WantedFleet(
                generation=self.generation,
                bots=tuple(wanted_bot(bot, self.fleet, self._around, fresh.get(bot.bot_id)) for bot in ready),
                applied=msgspec.json.encode(note),
            )
        )
        for bot_id, passwords in replaced.items():
            self._supervisor.rotate(bot_id, passwords)


def _row(bot: BotSpec) -> RegisteredBot:
    return RegisteredBot(
        bot_id=bot.bot_id,
        name=bot.name,
        enabled=bot.enabled,
        token_fingerprint=fingerprint(bot.token.get_secret_value()),
        config=public_config(bot),
    )


def _told(diff: FleetDiff, *, dry_run: bool = False, failed: Mapping[str, str] | None = None) -> AppliedBody:
    return AppliedBody(
        dry_run=dry_run,
        added=list(diff.added),
        removed=list(diff.removed),
        changed=list(diff.changed),
        unchanged=list(diff.unchanged),
        failed=dict(failed or {}),
    )


def _config_updated(diff: FleetDiff) -> StoredEvent:
    return StoredEvent(
        event_id=event_id(0, f"apply:{uuid.uuid4()}", 0),
        type="config.updated",
        version=1,
        occurred_at=time.time(),
        correlation_id="",
        causation_id="",
        data={
            "added": list(diff.added),
            "removed": list(diff.removed),
            "changed": list(diff.changed),
            "actor": "operator",
        },
    )
