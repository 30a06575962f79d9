"""The parts of the control process, wired together. Knows the supervisor only as a port, and speaks no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from redis.asyncio import Redis

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.grants import GrantAdmin
from botctl.bus.caretaking.identity import Loss
from botctl.bus.caretaking.retention import KEEP_SECONDS
from botctl.bus.client import connect
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.relay import Relay
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.control.bus.desk import BusDesk
from botctl.control.bus.drop_teller import DropTeller, unread_before
from botctl.control.bus.grant_keeper import GrantKeeper
from botctl.control.bus.keeper import BusKeeper
from botctl.control.bus.lag_watch import BusWatch
from botctl.control.bus.orphan_relay import OrphanRelay
from botctl.control.bus.resender import Resender, reach
from botctl.control.bus.stored_outbox import StoredOutbox
from botctl.control.defence.audit_desk import AuditDesk
from botctl.control.defence.canary_probe import CanaryProbe
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.quarantine_file import NAME as QUARANTINE_FILE
from botctl.control.defence.server_log import ServerLogFeed
from botctl.control.defence.threat_feeds import AclLog
from botctl.control.defence.threat_watch import ThreatWatch
from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.historian import Historian
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.fleet.recorder import Recorder
from botctl.control.fleet.starts import Starts
from botctl.control.fleet.teller import FleetTeller
from botctl.control.fleet.wanted import Surroundings, without_userinfo
from botctl.control.ingress.desk import WebhookDesk
from botctl.control.ingress.keeper import IngressKeeper
from botctl.control.ingress.options import target_of, webhook_of
from botctl.control.ports import WholeSupervisor
from botctl.control.prices import Prices
from botctl.control.pruner import Pruner
from botctl.control.pulse import Pulse
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.secrets.daily_rotation import CredentialRotation
from botctl.control.secrets.desk import VaultDesk
from botctl.control.secrets.master_rotation import MasterRotation
from botctl.control.secrets.sealing import opening_of, sealing_of
from botctl.control.secrets.vault import Vault
from botctl.control.service import Service
from botctl.control.tracing.dead_letter_desk import DeadLetterDesk
from botctl.control.tracing.desk import TraceDesk
from botctl.control.tracing.room import DeskRoom
from botctl.control.tracing.send_desk import SendDesk
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.control.waking import Waker
from botctl.control.watching.database_watch import DatabaseWatch
from botctl.control.watching.disk import DiskWatch
from botctl.control.watching.hearing import HearingProbe, options_of
from botctl.control.watching.letter_count import LetterCount
from botctl.control.watching.parked_watch import ParkedWatch
from botctl.control.watching.parked_watch import options_of as parked_options
from botctl.control.watching.resolver_watch import ResolverWatch
from botctl.errors import BotctlError
from botctl.fleet import Fleet
from botctl.handover import ControlConfig
from botctl.security import master_keys
from botctl.security.threat.detection import Detector
from botctl.settings.places import DataFolder
from botctl.storage.engine import login_engine
from botctl.storage.outbox import ALL

_log = structlog.get_logger("botctl.control")

_TRY_AGAIN_AFTER = 1.0
_CATCH_UP = 30.0
"""Seconds after the database is back, or after the start, before a group's work is taken from a member."""


class Assembly:
    """Everything of one control process but its pipe and its API's server."""

    def __init__(self, config: ControlConfig, supervisor: WholeSupervisor) -> None:
        self._config = config
        self._supervisor = supervisor
        self.waker = Waker(supervisor.wake)
        webhook = webhook_of(config.options)
        self._engine = login_engine(config.database, pool_size=4, application_name="botctl control")
        self._redis = self._client(blocking=False)
        self._router_redis = self._client(blocking=True)
        self._topology = topology = Topology(config.namespace)
        around = Surroundings(
            database=config.database.target,
            redis_url=without_userinfo(config.redis_url),
            namespace=config.namespace,
            telegram_base_url=config.telegram_base_url,
            openai_api_key=config.openai_api_key,
            openai_base_url=config.openai_base_url,
            log_format=config.log_format,
            data_dir=config.data_dir,
            private=tuple(config.private),
            uid_base=config.uid_base,
            uid_count=config.uid_count,
            webhook=target_of(webhook),
        )
        admin = BusAdmin(self._redis, topology, keeps_users=config.own_redis)
        self.drops = DropTeller(self._engine, lambda: self.relay.wake())
        grant_admin = GrantAdmin(admin)
        self.grants = GrantKeeper(self._engine, grant_admin, lambda: self.bus_watch.lags, self.drops.tell)
        guard = GrantGuard(topology, self.grants.names, self.grants.sharing)
        keep_seconds = float(config.options.get("bus_keep", KEEP_SECONDS / 86_400)) * 86_400
        self.bus = BusKeeper(admin, recover=self._recover, also=self.grants.keep)
        code = CodeKeeper(Path(config.data_dir) / "code")
        starts = Starts(supervisor, lambda: self.keeper.fleet, code)
        masters = master_keys.parse(config.master_keys) if config.master_keys else None
        source = master_keys.Source(config.master_source)
        vault = Vault(masters, source, {int(bot_id): key for bot_id, key in config.data_keys.items()})
        self.keeper = FleetKeeper(self._engine, self.bus, supervisor, around, starts.by_change, vault)
        if bytes(config.applied) == b"null":
            self.keeper.awaited = _first_fleet(config)
        self.quarantine = Quarantine(
            self._engine, self.keeper, supervisor, file=Path(config.data_dir) / QUARANTINE_FILE
        )
        self.credentials = CredentialRotation(self.keeper)
        self.rotation = MasterRotation(self._engine, vault, Path(config.data_dir), self.keeper.hold, names=self._names)
        self.rollouts = RolloutKeeper(supervisor, lambda: self.keeper.fleet, code)
        self.relay = Relay(self._redis, topology, 0, StoredOutbox(self._engine, 0), gate=self.bus.relay_gate)
        self.orphans = OrphanRelay(
            self._engine, self._redis, self.bus, topology, lambda bot_id: opening_of(vault, bot_id), self._no_orphans
        )
        self.keeper.orphans = lambda: self.orphans.bots
        self.resender = Resender(self._engine, self.relay.wake)
        self.recorder = Recorder(self._engine, supervisor, self.relay.wake)
        self.teller = FleetTeller(self._engine, supervisor, config.version, lambda: len(self._names()), self.relay.wake)
        home = DataFolder(Path(config.data_dir))
        self.threats = ThreatWatch(
            Detector(),
            acl_log=AclLog(self._redis, topology, own=config.own_redis),
            engine=self._engine,
            keeper=self.keeper,
            supervisor=supervisor,
            quarantine=self.quarantine,
            wake=self.relay.wake,
            server_log=ServerLogFeed(home.root / "postgres", home.logs) if config.own_database else None,
            server_port=config.database.target.port if config.own_database else 0,
            with_ingress=lambda sight: self.ingress.seen(sight),
        )
        self.ingress = IngressKeeper(
            webhook,
            self.keeper,
            lambda: login_engine(config.database, pool_size=1, application_name="botctl webhook"),
            self.waker.wake,
            config.telegram_base_url,
            lambda: self.hearing.webhooks,
        )
        self.keeper.before_desire = self.ingress.renew
        self.canaries = CanaryProbe(
            self._engine, config.database.target, self.threats.not_apart, self.keeper.know_canary
        )
        self.router = Router(
            self._router_redis,
            topology,
            self.keeper.roster,
            self.threats.rejected,
            on_lost=lambda bot_id, seconds: self.resender.lost(seconds, bot_id),
            may_hand_out=self._members_can_store,
            keep_seconds=keep_seconds,
            on_dropped=self.drops.tell,
            guard=guard,
            gate=self.bus.gate,
            server=lambda: self.bus.settled,
            on_stranger=self.bus.look_now,
        )
        self.bus_watch = BusWatch(
            self._redis,
            topology,
            lambda: self.keeper.fleet,
            lambda: self.grants.grants,
            keep_seconds=keep_seconds,
            mailbox_limit=self.router.janitor.mailbox_limit,
            dropped=self.drops.entries,
        )
        self.bus_desk = BusDesk(
            self._engine,
            lambda: self._client(blocking=False),
            topology,
            self.grants,
            grant_admin,
            self.bus_watch,
            guard,
            self.keeper.roster,
            self.bus.settle,
            without_userinfo(config.redis_url),
        )
        self.pruner = Pruner(self._engine, config.options, redis_is_sound=lambda: self.bus.sound)
        self.watch = DatabaseWatch(self._engine, on_mended=self.threats.mended)
        self.disk = DiskWatch(Path(config.data_dir))
        self.audit = AuditDesk(
            self._engine,
            Path(config.data_dir),
            config.options,
            self._names,
        )
        room = DeskRoom(self._engine, vault, self._names, supervisor.sight, self.audit.note)
        prices = Prices.of_options(config.options)
        self.traces = TraceDesk(room, prices)
        self.letter_count = LetterCount(self._engine)
        self.letters = DeadLetterDesk(
            room, DeadLetters(self._redis, topology), self.waker.wake, self.letter_count.changed
        )
        self.hearing = HearingProbe(
            lambda: self.keeper.fleet.bots if self.keeper.fleet is not None else (),
            supervisor,
            config.telegram_base_url,
            **options_of(config.options),
        )
        self.parked = ParkedWatch(
            self._engine,
            lambda: self.keeper.fleet.bots if self.keeper.fleet is not None else (),
            supervisor,
            self.hearing.pending,
            self.relay.wake,
            **parked_options(config.options),
        )
        self.resolver = ResolverWatch(supervisor)
        self.historian = Historian(self._engine, DataFolder(Path(config.data_dir)).logs, self.recorder.deaths)
        self.sends = SendDesk(room, lambda: self.keeper.fleet, lambda bot: sealing_of(vault, bot), self.waker.wake)
        self.webhooks = WebhookDesk(
            self.ingress, self.keeper, Pulse(self._engine), self.hearing.webhooks, time.monotonic
        )
        self.service = Service(
            more_metrics=lambda: self.ingress.metrics(self._names()),
            keeper=self.keeper,
            supervisor=supervisor,
            engine=self._engine,
            database=config.database.target,
            historian=self.historian,
            topology=topology,
            streams=lambda: self._client(blocking=True),
            router_stats=self.router.stats,
            bus=self.bus_watch,
            forgotten=self.pruner.forgotten,
            kept_off=self.router.kept_off,
            telegram_pending=self.hearing.pending,
            parked=self.parked.rule,
            problems=self.problems,
            letters=self.letter_count,
            prices=prices,
            version=config.version,
            rollouts=self.rollouts,
            starts=starts,
            quarantine=self.quarantine,
            threats=self.threats,
            vault=VaultDesk(self._engine, self.keeper, self.rotation, self.rollouts, config.telegram_base_url),
        )
        self._away_at = time.monotonic()
        self.api_problem: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()
        """Set once the fleet is known, or that there is none."""

    def _members_can_store(self) -> bool:
        """Not while the database is away, nor right afterwards: then members still work off what has waited."""
        if self.watch.problem is not None:
            self._away_at = time.monotonic()
        return time.monotonic() - self._away_at > _CATCH_UP

    def _names(self) -> dict[int, str]:
        return {bot.bot_id: bot.name for bot in self.keeper.fleet.bots} if self.keeper.fleet is not None else {}

    async def _no_orphans(self) -> set[int] | None:
        """Who has, or may have again, a process of its own; of whom was shut away nothing is to come any more."""
        if not await self.keeper.settled() or self.keeper.fleet is None or not self.keeper.vault.loaded:
            return None
        wanted = {bot.bot_id for bot in self.keeper.fleet.bots}
        return wanted | self.keeper.shut.keys() | {bot.bot_id for bot in (await self._supervisor.sight()).bots}

    def problems(self) -> list[str]:
        """What is missing now, in the operator's words."""
        found = [self.disk.problem, self.watch.problem, self.bus.problem, self.api_problem, self.audit.problem]
        found += [self.quarantine.problem, self.threats.problem, self.ingress.problem]
        found.append(self.canaries.problem and f"database: {self.canaries.problem}")
        found.append(self.hearing.undelivered)
        if self.watch.problem is None and self.recorder.problem is not None:
            found.append(f"database: {self.recorder.problem}; the history of the bots waits")
        found += [f"bot {name}: {why}" for name, why in self.keeper.failed.items()]
        return [problem for problem in found if problem is not None]

    def start(self) -> None:
        """Begin everything that goes on by itself. Needs neither database nor Redis to be there."""
        jobs: Mapping[str, Callable[[], Awaitable[None]]] = {
            "disk": self.disk.run,
            "database": self.watch.run,
            "redis": self.bus.run,
            "recorder": self.recorder.run,
            "teller": self._tell,
            "relay": self.relay.run,
            "orphans": self.orphans.run,
            "resender": self.resender.run,
            "router": self._route,
            "keeper": self.keeper.run,
            "credentials": self.credentials.run,
            "quarantine": self.quarantine.run,
            "threats": self.threats.run,
            "canaries": self.canaries.run,
            "hearing": self.hearing.run,
            "parked": self.parked.run,
            "ingress": self.ingress.run,
            "resolver": self.resolver.run,
            "grants": self.grants.run,
            "losses": self.drops.run,
            "lag": self.bus_watch.run,
            "pruner": self.pruner.run,
            "audit": self.audit.run,
            "dead letters": self.letter_count.run,
        }
        self._tasks += [asyncio.create_task(_persist(name, job), name=name) for name, job in jobs.items()]
        self._tasks.append(asyncio.create_task(self._begin(), name="begin"))
        self._tasks.append(asyncio.create_task(self.rotation.run(), name="master key"))

    async def _recover(self, loss: Loss) -> None:
        self.router.forget()
        since = time.time() - (reach(loss) or ALL)
        await self.resender.recover(loss, self._redis, self._topology)
        self.grants.comes_again_from = since
        if loss.empty:
            for dropped in unread_before(since, self.bus_watch.lags, self._topology):
                self.drops.tell(dropped)
            self.bus_watch.lags = []

    async def reload(self) -> None:
        """Read the fleet file again; whatever is wrong with it is logged, and nothing changes then."""
        try:
            self.rollouts.refuse_beside("a reload")
            await self.keeper.reload()
        except BotctlError as error:
            _log.error("the fleet was not reloaded; nothing was changed", reason=error.message)

    async def close(self, timeout: float) -> None:
        """Store and relay what waits, as far as `timeout` seconds allow; then let go of everything."""
        await self.rollouts.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(*DATABASE_TROUBLE):
            async with asyncio.timeout(timeout / 2):
                await self.recorder.write()
                await self.audit.write()
                await self.teller.look()
        await self.relay.drain(timeout / 4)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(timeout / 4):
                await self._redis.aclose()
                await self._router_redis.aclose()
                await self._engine.dispose()

    async def _route(self) -> None:
        """Not before it is known who is to get what: it would be in the logs only, and routed for good."""
        await self._begun.wait()
        await self.router.run()

    async def _tell(self) -> None:
        """Not before it is known how many bots there are."""
        await self._begun.wait()
        await self.teller.run()

    async def _begin(self) -> None:
        try:
            await self._take_up()
        finally:
            self._begun.set()

    async def _take_up(self) -> None:
        """The fleet that the last `control` had, or the one the daemon was started with."""
        await self.quarantine.adopt()
        if bytes(self._config.applied) != b"null":
            held = {int(bot_id): generation for bot_id, generation in self._config.credentials.items()}
            try:
                self.keeper.resume(bytes(self._config.applied), held)
            except ValueError as error:
                _log.error("the last control's note can't be read; applying the fleet anew", error=type(error).__name__)
            else:
                _log.info("resumed", generation=self.keeper.generation)
                await self._recover_rollout()
                return
        await self._close_old_runs()
        if (fleet := _first_fleet(self._config)) is not None:
            await self.keeper.start(fleet, FleetSource(self._config.fleet_path, self._config.fleet_env))

    async def _recover_rollout(self) -> None:
        while True:
            try:
                return await self.rollouts.recover()
            except TimeoutError:
                _log.warning("the supervisor does not answer; it may hold a rollout that is to be taken back")

    async def _close_old_runs(self) -> None:
        """Runs that an earlier, killed daemon could not close."""
        while True:
            try:
                sight = await self._supervisor.sight()
                await self.historian.close_old_runs(sight.started_at)
            except DATABASE_TROUBLE as error:
                _log.warning("waiting for the database", reason=database_reason(error))
                await asyncio.sleep(_TRY_AGAIN_AFTER)
            else:
                return

    def _client(self, *, blocking: bool) -> Redis:
        return connect(self._config.redis_url, blocking=blocking, steadfast=True)


def _first_fleet(config: ControlConfig) -> Fleet | None:
    """The fleet the daemon was started with."""
    return Fleet.model_validate_json(bytes(config.fleet)) if bytes(config.fleet) != b"null" else None


async def _persist(name: str, job: Callable[[], Awaitable[None]]) -> None:
    """Run a job that should never end; a mistake of ours in one must not end the others."""
    while True:
        try:
            await job()
        except Exception:
            _log.exception("a part of control failed and begins anew", part=name)
        await asyncio.sleep(_TRY_AGAIN_AFTER)
