"""Threat detection at work: gathers what is seen, has it judged, publishes each verdict, performs what is enforced.

Needs neither database nor Redis to go on: a feed that is away is left out, and verdicts wait to be published. Decides
nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.client import AWAY
from botctl.bus.events import event_id
from botctl.bus.routing.batch import Rejected
from botctl.control.defence.hog_feed import HogFeed
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.server_log import ServerLogFeed
from botctl.control.defence.session_feed import SessionFeed
from botctl.control.defence.socket_owners import socket_counts, socket_owners
from botctl.control.defence.threat_feeds import AclLog, Counters, Talkative
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ports import FleetSight, SupervisorPort
from botctl.control.trouble import DATABASE_TROUBLE
from botctl.fleet import BotSpec
from botctl.fleet.threats import Tuning
from botctl.security.threat.detection import FLEET, Detector, Level, Verdict
from botctl.security.threat.observations import BadEvents, CanaryReadable, LoginMended, Observation
from botctl.storage import audit, logins
from botctl.storage.outbox import Outbox, StoredEvent

_log = structlog.get_logger("botctl.control.threats")

LOOK_EVERY = 0.25
"""Seconds between looks at Redis: detection and quarantine together stay within a second."""

COUNT_EVERY = 60.0
"""Seconds between looks at counters: what a baseline's sample spans."""

SOCKETS_EVERY = 1.0
"""Seconds between looks at who holds the database's connections."""

SESSIONS_EVERY = 5.0
"""Seconds between looks at the database's sessions, and at users who flood."""

_SEVERITY = {Level.WATCH: "low", Level.BLOCK: "medium", Level.QUARANTINE: "high"}
_MOST_WAITING = 1000


class ThreatWatch:
    """`wake` is called when an event was committed; `now` gives seconds since the epoch.

    Without `server_log` there is no log to look at: the database is the operator's own. `server_port` is that of a
    server on this machine; 0 for another one.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        acl_log: AclLog,
        engine: AsyncEngine,
        keeper: FleetKeeper,
        supervisor: SupervisorPort,
        quarantine: Quarantine,
        wake: Callable[[], None],
        server_log: ServerLogFeed | None = None,
        server_port: int = 0,
        now: Callable[[], float] = time.time,
        with_ingress: Callable[[FleetSight], FleetSight] = lambda sight: sight,
    ) -> None:
        self._with_ingress = with_ingress
        self.told: Counter[tuple[str, str]] = Counter()
        """Verdicts by the first signal's rule and what was done."""
        self._detector = detector
        self._acl_log = acl_log
        self._server_log = server_log
        self._server_port = server_port
        self._sessions = SessionFeed()
        self._hogs = HogFeed()
        self._counters = Counters()
        self._talkative = Talkative()
        self._engine = engine
        self._keeper = keeper
        self._supervisor = supervisor
        self._quarantine = quarantine
        self._event_sent = wake
        self._now = now
        self._outbox = Outbox(0)
        self._refused: dict[int, tuple[int, str]] = {}
        self._mended: set[int] = set()
        self._alarms: list[str] = []
        self._slow: list[Observation] = []
        """What the looks that wait for the database have seen."""
        self._waiting: deque[tuple[Verdict, str]] = deque(maxlen=_MOST_WAITING)
        self._counted_at = 0.0

    def rejected(self, rejected: Rejected) -> None:
        """The router has refused an event of this bot. May be called thousands of times a second."""
        if rejected.bot_id > 0:
            count, _ = self._refused.get(rejected.bot_id, (0, ""))
            self._refused[rejected.bot_id] = (count + 1, rejected.reason[:200])

    def mended(self, bot_ids: list[int]) -> None:
        """These bots had changed their own logins."""
        self._mended.update(bot_ids)

    def not_apart(self, what: str) -> None:
        """The database does not keep bots apart, in this way."""
        self._alarms.append(what)

    @property
    def problem(self) -> str | None:
        """What keeps a look from seeing."""
        return self._server_log.problem if self._server_log is not None else None

    def score(self, bot_id: int) -> float:
        """Of a bot now, rules in shadow included."""
        return self._detector.score(bot_id, self._now())

    async def run(self) -> None:
        """Look until cancelled."""
        others = [asyncio.create_task(self._run_sessions(), name="sessions")]
        if self._server_port:
            others.append(asyncio.create_task(self._run_sockets(), name="sockets"))
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            for task in others:
                task.cancel()

    async def _run_sessions(self) -> None:
        while True:
            await self.look_at_sessions()
            await asyncio.sleep(SESSIONS_EVERY)

    async def _run_sockets(self) -> None:
        while True:
            await self.look_at_sockets()
            await asyncio.sleep(SOCKETS_EVERY)

    async def look_at_sockets(self) -> None:
        """One look at who holds the database's connections; the database isn't asked, it may be what is held."""
        counts = await asyncio.to_thread(socket_counts, self._server_port)
        if self._hogs.suspicious(counts):
            with contextlib.suppress(TimeoutError):
                self._slow += self._hogs.read(counts, await self._supervisor.sight(), self._now())

    async def look_at_sessions(self) -> None:
        """One look at who has logged in, and who talks, apart from the others: the database may take its time."""
        found: list[logins.Session] | None = None
        with contextlib.suppress(*DATABASE_TROUBLE, TimeoutError):
            async with asyncio.timeout(3.0), self._engine.connect() as connection:
                found = await logins.sessions(connection)
        owners = await asyncio.to_thread(socket_owners, self._server_port) if self._server_port else {}
        try:
            sight = await self._supervisor.sight()
        except TimeoutError:
            return
        now = self._now()
        self._slow += self._talkative.read(self._with_ingress(sight), now)
        if found is not None:
            self._slow += self._sessions.read(found, sight, now, owners)

    async def look(self) -> None:
        """One round."""
        now = self._now()
        seen = await self._seen(now)
        wanted = self._wanted()
        self._detector.overrides = {bot_id: bot.threats for bot_id, bot in wanted.items()}
        if common := _common(wanted.values()):
            self._detector.tuning = common
        verdicts = self._detector.tick([one for one in seen if one.bot_id in wanted or one.bot_id == FLEET], now)
        names = {bot_id: bot.name for bot_id, bot in wanted.items()}
        await asyncio.gather(*(self._perform(verdict, names.get(verdict.bot_id, "")) for verdict in verdicts))
        await self._publish()

    def _wanted(self) -> dict[int, BotSpec]:
        """The bots that can be judged: not those that are shut away already."""
        if self._keeper.fleet is None:
            return {}
        return {bot.bot_id: bot for bot in self._keeper.fleet.bots if bot.bot_id not in self._keeper.shut}

    async def _seen(self, now: float) -> list[Observation]:
        refused, self._refused = self._refused, {}
        mended, self._mended = self._mended, set()
        seen: list[Observation] = [
            BadEvents(at=now, bot_id=bot_id, count=count, reason=reason) for bot_id, (count, reason) in refused.items()
        ]
        seen += [LoginMended(at=now, bot_id=bot_id) for bot_id in mended]
        slow, self._slow = self._slow, []
        seen += slow
        alarms, self._alarms = self._alarms, []
        seen += [CanaryReadable(at=now, what=what) for what in alarms]
        if self._server_log is not None and self._keeper.fleet is not None:
            seen += await self._server_log.read(now)
        try:
            async with asyncio.timeout(2.0):
                seen += await self._acl_log.read(now)
        except (*AWAY, TimeoutError):
            pass  # the bus keeper tells of it
        if now - self._counted_at >= COUNT_EVERY:
            self._counted_at = now
            try:
                seen += self._counters.read(await self._supervisor.sight(), now)
            except TimeoutError:
                _log.warning("the supervisor does not answer; counters were not looked at")
        return seen

    async def _perform(self, verdict: Verdict, name: str) -> None:
        action = _action(verdict)
        _log.warning(
            "threat detected",
            bot=name or None,
            user_id=verdict.user_id or None,
            level=verdict.would.name.lower(),
            action=action,
            why=verdict.explanation,
        )
        if verdict.user_id:
            if verdict.level >= Level.BLOCK:
                await self._keeper.ignore(verdict.bot_id, verdict.user_id, self._now() + verdict.seconds)
        elif verdict.level >= Level.BLOCK:
            why = f"{verdict.signals[0].rule}: {verdict.signals[0].explanation}"
            await self._quarantine.shut(
                verdict.bot_id, name, by="threat detection", reason=why, seconds=verdict.seconds
            )
            self._detector.forget([verdict.bot_id])
        self.told[(verdict.signals[0].rule, action)] += 1
        self._waiting.append((verdict, action))

    async def _publish(self) -> None:
        while self._waiting:
            verdict, action = self._waiting[0]
            try:
                async with asyncio.timeout(3.0), self._engine.begin() as connection:
                    await self._outbox.add(connection, [_event(verdict, action)])
                    await audit.record(
                        connection,
                        verdict.bot_id,
                        "threat.detected",
                        f"bot_{verdict.bot_id}" if verdict.bot_id else "fleet",
                        after=_told(verdict, action),
                    )
            except (*DATABASE_TROUBLE, TimeoutError):
                return  # it waits
            self._waiting.popleft()
            self._event_sent()


def _action(verdict: Verdict) -> str:
    """What is done, in the words of the event."""
    if verdict.bot_id == FLEET:
        return "told"
    if verdict.would > verdict.level:
        return "none (shadow)"
    return verdict.level.name.lower() + (" user" if verdict.user_id else "")


def _common(bots: Iterable[BotSpec]) -> Tuning | None:
    """What all bots agree in, as `defaults` of the fleet file make them: it holds for what concerns none of them."""
    found = [bot.threats for bot in bots]
    return found[0] if found and all(one == found[0] for one in found) else None


def _event(verdict: Verdict, action: str) -> StoredEvent:
    return StoredEvent(
        event_id=event_id(0, f"threat:{uuid.uuid4()}", 0),
        type="threat.detected",
        version=1,
        occurred_at=verdict.at,
        correlation_id="",
        causation_id="",
        data={
            "rule": verdict.signals[0].rule,
            "severity": _SEVERITY[verdict.would],
            "bot_id": verdict.bot_id,
            "detail": verdict.explanation[:2000],
            "action": action,
        },
    )


def _told(verdict: Verdict, action: str) -> dict[str, object]:
    return {
        "level": verdict.would.name.lower(),
        "action": action,
        "score": round(verdict.score, 2),
        "signals": {signal.rule: signal.explanation for signal in verdict.signals},
    }
