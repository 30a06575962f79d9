"""What the API asks for, done: a thin layer over the keepers. Speaks no HTTP and no pipe."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType

import structlog
from prometheus_client.metrics_core import Metric
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.client import AWAY, reason
from botctl.bus.events import Event, Log
from botctl.bus.reading.reader import read_logs
from botctl.bus.routing.stats import RouterStats
from botctl.bus.topology import Topology
from botctl.control import views
from botctl.control.bus.lag_watch import BusWatch
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.threat_watch import ThreatWatch
from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.historian import Historian
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.fleet.releasing import releasable, released_words
from botctl.control.fleet.starts import Starts
from botctl.control.ports import FleetSight, SupervisorPort
from botctl.control.prices import Prices
from botctl.control.pulse import Pulse
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.rollouts.rules import WaveSize
from botctl.control.samples import fleet_sample
from botctl.control.secrets.desk import VaultDesk
from botctl.control.status import breaker_problems, status_body
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
from botctl.control.watching.letter_count import LetterCount
from botctl.control.watching.parked import ParkedRule
from botctl.errors import BotctlError, NoSuchBotError, RefusedError, UsageError
from botctl.fleet import Fleet
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.observability.bus_metrics import bus_families
from botctl.observability.metrics import FleetSample, render
from botctl.storage import deliveries, logins, runs
from botctl.storage.scram import new_password
from botctl.storage.url import format_database_url

_log = structlog.get_logger("botctl.control.service")

_COUNT_TIMEOUT = 3.0

READER_VALID = timedelta(minutes=10)
"""How long a reader may log in; a session that has begun goes on until it ends."""


class Service:
    """`problems` tells what `control` lacks now; `streams` makes a client for following logs."""

    def __init__(
        self,
        *,
        keeper: FleetKeeper,
        supervisor: SupervisorPort,
        engine: AsyncEngine,
        database: DatabaseTarget,
        historian: Historian,
        topology: Topology,
        streams: Callable[[], Redis],
        router_stats: RouterStats,
        kept_off: Callable[[], Mapping[int, tuple[str, float]]] = dict,
        parked: ParkedRule | None = None,
        telegram_pending: Mapping[int, int],
        problems: Callable[[], list[str]],
        letters: LetterCount | None = None,
        prices: Prices | None = None,
        bus: BusWatch | None = None,
        forgotten: Mapping[str, int] = MappingProxyType({}),
        more_metrics: Callable[[], Iterable[Metric]] = tuple,
        version: str,
        rollouts: RolloutKeeper,
        starts: Starts,
        vault: VaultDesk,
        quarantine: Quarantine,
        threats: ThreatWatch,
    ) -> None:
        self._letters = letters
        self._prices = prices or Prices({})
        self._threats = threats
        self._quarantine = quarantine
        self._vault = vault
        self._rollouts = rollouts
        self._starts = starts
        self._keeper = keeper
        self._supervisor = supervisor
        self._engine = engine
        self._pulse = Pulse(engine)
        self._database = database
        self._historian = historian
        self._topology = topology
        self._streams = streams
        self._router_stats = router_stats
        self._kept_off = kept_off
        self._parked = parked or ParkedRule()
        self._telegram_pending = telegram_pending
        self._problems = problems
        self._bus = bus
        self._forgotten = forgotten
        self._more_metrics = more_metrics
        self._version = version
        self._journal: Mapping[str, Mapping[int, int]] = {}

    async def status(self) -> views.StatusBody:
        """The fleet as the supervisor sees it; works without database and Redis."""
        body = await self._status()
        body.bus = self._bus.view(everybody=False) if self._bus is not None else None
        return body

    async def _status(self) -> views.StatusBody:
        return status_body(
            await self._sight(),
            self._keeper.fleet or self._keeper.awaited,
            self._keeper.failed,
            self._problems(),
            version=self._version,
            control_pid=os.getpid(),
            now=time.time(),
            rollout=self._rollouts.says,
            rotated=self._vault.rotated,
            shut=self._keeper.shut,
            score=self._threats.score,
            ignored=self._keeper.ignored_now(time.time()),
            kept_off=self._kept_off(),
            parked=self._parked.parked,
            dead_letters=self._letters.waiting if self._letters is not None else {},
        )

    async def apply(
        self, fleet: Fleet, *, fleet_path: str | None, fleet_env: dict[str, str], dry_run: bool
    ) -> views.AppliedBody:
        """Make this the wanted fleet."""
        if not dry_run:
            self._rollouts.refuse_beside("a change of the fleet")
        source = FleetSource(fleet_path, fleet_env)
        return await self._pulse.within(self._keeper.apply(fleet, source, dry_run=dry_run))

    async def reload(self) -> views.AppliedBody:
        """Read the fleet file again and apply it."""
        self._rollouts.refuse_beside("a reload")
        return await self._pulse.within(self._keeper.reload())

    async def command(self, verb: str, name: str) -> views.CommandBody:
        """Pass a command to the supervisor; an empty name means every bot."""
        if verb == "quarantine" or (name and self._bot_id(name) in self._keeper.shut):
            return await self._shut_away(verb, name)
        if name:
            self._bot_id(name)
        elif verb != "stop":
            self._rollouts.refuse_beside(f"a {verb} of the whole fleet")
        if verb == "release" and not name:
            return await self._release_all()
        if verb in ("start", "restart", "release") and not self._rollouts.running:
            await self._starts.by_command(verb, name, await self._sight())
        return await self._command(verb, name)

    async def _shut_away(self, verb: str, name: str) -> views.CommandBody:
        """Shut a bot away; or what can be done with one that is."""
        if not name:
            raise UsageError("quarantine one bot, by its name", hint="To stop them all: botctl stop.")
        bot_id = self._bot_id(name)
        if verb == "quarantine":
            done = await self._quarantine.shut(bot_id, name, by="operator", reason="quarantined by operator")
            rest = "" if done else ", as far as could be done at once; the rest follows"
            return views.CommandBody(message=f"{name} is shut away{rest}")
        if verb == "stop":
            return views.CommandBody(message=f"{name} is shut away already; it starts again when it is released")
        if verb != "release":
            raise RefusedError(f"{name} is quarantined ({self._keeper.shut[bot_id].reason}); release it instead")
        await self._pulse.within(self._quarantine.release(bot_id, name))
        if not self._rollouts.running:
            await self._starts.by_command(verb, name, await self._sight())
        return await self._command(verb, name)

    async def _release_all(self) -> views.CommandBody:
        """Every bot whose failures put it into quarantine; who was shut away on purpose stays there."""
        sight = await self._sight()
        freed = releasable(sight)
        if freed:
            await self._starts.by_command("release", "", sight)
        for bot in freed:
            await self._command("release", bot.name)
        return views.CommandBody(message=released_words([bot.name for bot in freed], sight))

    async def rollout(self, wave: str, watch: bool, settle: float) -> views.RolloutBody:
        """Begin a rolling restart."""
        return await self._rollouts.begin(WaveSize.parse(wave), settle=settle if watch else None)

    async def abort_rollout(self) -> views.CommandBody:
        """Take back the rolling restart that is under way."""
        self._rollouts.abort()
        return views.CommandBody(message="the rolling restart is being taken back")

    def follow_rollout(self) -> AsyncIterator[views.RolloutLine]:
        """What the rolling restart says, until it is over."""
        return self._rollouts.follow()

    async def shutdown(self) -> views.CommandBody:
        """End the daemon."""
        return await self._command("shutdown", "")

    async def open_events(self, log: str, after: str, follow: bool) -> AsyncIterator[views.EventBody]:
        """Entries of one log or of the three. Raises before the first entry if Redis is away."""
        redis = self._streams()
        logs = list(Log) if log == "all" else [Log(log)]
        try:
            await redis.ping()
        except AWAY as error:
            await redis.aclose()
            raise BotctlError(
                f"the events can't be read: {reason(error)}", hint="They wait in PostgreSQL until Redis is back."
            ) from error

        async def entries() -> AsyncIterator[views.EventBody]:
            try:
                async for source, entry, event in read_logs(redis, self._topology, logs, after, follow):
                    yield _event_body(source, entry, event)
            finally:
                await redis.aclose()

        return entries()

    async def runs(self, name: str | None, limit: int) -> list[views.RunBody]:
        """The latest incarnations of a bot or of all."""
        bot_id = self._bot_id(name) if name is not None else None
        await self._pulse.feel()
        try:
            async with self._engine.connect() as connection:
                found = await runs.recent_runs(connection, bot_id, limit)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        return [views.RunBody.model_validate(run, from_attributes=True) for run in found]

    async def deaths(self, name: str, limit: int, planned: bool) -> views.DeathsBody:
        """How the latest incarnations of a bot ended; works without the database. Raises NoSuchBotError."""
        notes = []
        bot = None
        try:
            bot = next((one for one in (await self.status()).bots if one.name == name), None)
        except BotctlError as error:
            notes.append(error.message)
        known = self._keeper.bot(name)
        bot_id = known.bot_id if known is not None else bot.bot_id if bot is not None else None
        try:
            body = await self._historian.tell(name, bot_id, bot, limit=limit, planned=planned)
        except NoSuchBotError:
            raise self._no_such_bot(name) from None
        body.notes[:0] = notes
        return body

    async def psql_login(self, name: str) -> views.LoginBody:
        """Make a read-only login that sees this bot's rows only."""
        bot_id, password = self._bot_id(name), new_password()
        await self._pulse.feel()
        try:
            async with self._engine.begin() as connection:
                user, until = await logins.open_reader(connection, bot_id, password, READER_VALID)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        login = DatabaseLogin(target=self._database, user=user, password=password)
        return views.LoginBody(url=format_database_url(login), valid_until=until)

    async def secrets(self) -> views.SecretsBody:
        """Which keys there are, and of what age."""
        return await self._pulse.within(self._vault.status())

    async def rotate_master(self, given: str) -> views.MasterBody:
        """A new master key, or the end of a rotation that was begun."""
        return await self._pulse.within(self._vault.rotate_master(given))

    async def rotate_bot(self, name: str) -> views.CommandBody:
        """A new data key for one bot."""
        return await self._pulse.within(self._vault.rotate_bot(name))

    async def rotate_credentials(self, name: str) -> views.CommandBody:
        """New passwords for one bot, or for all."""
        return await self._pulse.within(self._vault.rotate_credentials(name))

    async def rotate_token(self, name: str, token: str) -> views.CommandBody:
        """A new token for one bot."""
        return await self._pulse.within(self._vault.rotate_token(name, token))

    async def health(self) -> views.HealthBody:
        """Whether `control` and the supervisor can do their work, and restart who fails."""
        problems = self._problems()
        try:
            problems = problems + breaker_problems(await self._sight())
        except BotctlError as error:
            problems = [*problems, error.message]
        return views.HealthBody(ok=not problems, problems=problems)

    async def metrics(self) -> bytes:
        """The Prometheus exposition."""
        sight = await self._sight()
        journal = await self._journal_counts()
        return self._rendered(
            fleet_sample(
                sight,
                version=self._version,
                pending=self._telegram_pending,
                journal=journal,
                router=self._router_stats,
                now=time.time(),
                threats=self._threats.told,
                shut_away=len(self._keeper.shut),
                waiting=self._letters.waiting if self._letters is not None else {},
                cost=self._costs(sight),
                parked=self._parked.seconds,
            )
        )

    def _rendered(self, sample: FleetSample) -> bytes:
        bus = bus_families(self._bus.sample(self._forgotten)) if self._bus is not None else ()
        return render(sample, [*bus, *self._more_metrics()])

    async def _journal_counts(self) -> Mapping[str, Mapping[int, int]]:
        """Counters that outlive a bot's process; the last known while the database is away."""
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT), self._engine.connect() as connection:
                self._journal = {
                    "sends_uncertain": await deliveries.uncertain_sends(connection),
                }
            if self._letters is not None:
                async with asyncio.timeout(_COUNT_TIMEOUT):
                    await self._letters.count()
                self._journal = {**self._journal, "dead_letters": self._letters.ever}
        except (*DATABASE_TROUBLE, TimeoutError) as error:
            _log.warning("the journal can't be counted", error=str(error))
        return self._journal

    def _costs(self, sight: FleetSight) -> dict[int, float]:
        """What completions of the bots that run have cost, by the model each is configured with."""
        costs: dict[int, float] = {}
        if not self._prices.models:
            return costs
        for bot in sight.bots:
            spec, told = self._keeper.bot(bot.name), bot.counters
            if spec is not None and spec.assistant is not None and "tokens_in" in told:
                spent = self._prices.cost(
                    spec.assistant.model, told["tokens_in"], told.get("tokens_out", 0.0), told.get("tokens_cached")
                )
                if spent is not None:
                    costs[bot.bot_id] = spent
        return costs

    async def _sight(self) -> FleetSight:
        try:
            return await self._supervisor.sight()
        except TimeoutError as error:
            raise BotctlError("the supervisor does not answer", hint="Look into the log `daemon`.") from error

    async def _command(self, verb: str, name: str) -> views.CommandBody:
        try:
            ok, message = await self._supervisor.command(verb, name, "by operator")
        except TimeoutError as error:
            raise BotctlError("the supervisor does not answer", hint="Look into the log `daemon`.") from error
        if not ok:
            raise RefusedError(message)
        return views.CommandBody(message=message)

    def _bot_id(self, name: str) -> int:
        bot = self._keeper.bot(name)
        if bot is None:
            raise self._no_such_bot(name)
        return bot.bot_id

    def _no_such_bot(self, name: str) -> NoSuchBotError:
        names = ", ".join(one.name for one in self._keeper.fleet.bots) if self._keeper.fleet is not None else ""
        return NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {names}." if names else None)


def _event_body(log: Log, entry: str, event: Event) -> views.EventBody:
    return views.EventBody(
        entry=entry,
        log=log.value,
        id=event.id,
        type=event.type,
        version=event.version,
        source=event.source,
        occurred_at=event.occurred_at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        data=event.data,
    )
