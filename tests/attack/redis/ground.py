"""Where a taken-over bot attacks the bus: a server, the live router, B with events under way; and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attack.cases import attack
from attack.redis.wire import Raw, Refusal, Word
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.grants import Grant, GrantAdmin, grant_user
from botctl.bus.client import AWAY, connect
from botctl.bus.event_types.subscriptions import Subscription
from botctl.bus.events import Event, Log, encode_event
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.relay import Relay
from botctl.bus.routing.batch import Rejected
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import prepare_valkey
from integration.conftest import RunningServer, server_folder

AREA = "bus"
A, B, C = 1, 10, 11
"""A's number is the beginning of the others'."""

MAL_PASSWORD = secrets.token_urlsafe(16)
MARK = b"words of the victim"
REFUSED = "refused (NOPERM)"
OTHERS_GO_ON = "others go on"
NOTHING = "nothing happens"

_NONE = ("EXECABORT", "ERR unknown ", "ERR DEBUG command not allowed", "ERR MODULE command not allowed")
"""What the server doesn't have, or allows nobody over a connection."""

Attack = Callable[["Ground"], Awaitable[str]]
WEAKENED: dict[str, tuple[str, ...]] = {}
"""Of a case, what an administrator would have to command for the attack to end otherwise: the proof that it can."""


@contextlib.contextmanager
def running(product: str) -> Iterator[str]:
    """Administrator's URL of the embedded Valkey, or of the system's Redis run with the same settings."""
    with server_folder() as folder:
        made = prepare_valkey(folder / "valkey")
        if product == "redis":
            made.spec.argv[0] = str(shutil.which("redis-server"))
        server = RunningServer(made.spec, lambda: ping_valkey(made.admin_url))
        try:
            yield made.admin_url
        finally:
            server.stop()


@dataclass(frozen=True)
class Me:
    """All that a flood running in a process of its own needs to know."""

    port: int
    user: str
    password: str
    names: dict[str, str]

    def raw(self, *, timeout: float = 20.0) -> Raw:
        """A connection of A's, logged in."""
        return Raw(self.port, self.user, self.password, timeout=timeout)


@dataclass
class Outbox:
    """The double of an outbox's table."""

    rows: dict[int, Event] = field(default_factory=dict)
    seq: int = 0

    def put(self, event: Event) -> None:
        """Commit it."""
        self.seq += 1
        self.rows[self.seq] = event

    async def pending(self, limit: int) -> list[Any]:
        """As the port says."""
        return [_Row(seq, event) for seq, event in sorted(self.rows.items())[:limit]]

    async def mark_relayed(self, seqs: Any) -> None:
        """As the port says."""
        for seq in seqs:
            self.rows.pop(seq, None)


@dataclass(frozen=True)
class _Row:
    seq: int
    event: Event


@dataclass
class Suffered:
    """What the others had to bear."""

    waited: float = 0.0
    """Seconds that B's slowest event took from its outbox to its mailbox."""
    shut_out: float = 0.0
    """Seconds for which no new connection of B's could be made, at most."""
    memory: int = 0
    """The server's, at most, in megabytes."""
    router: int = 0
    """By how many megabytes the router's process grew, at most."""


class Ground:
    """One test's stage. `me` is the attacker's connection, made with A's own credentials."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 0
        self.topology = Topology("t")
        self.redis = connect(url, steadfast=True)
        self.admin = BusAdmin(self.redis, self.topology)
        self.passwords = {bot: secrets.token_urlsafe(16) for bot in (A, B, C)}
        self.rejected: list[Rejected] = []
        self.lost: list[tuple[int, float]] = []
        routes = connect(url, blocking=True, steadfast=True)
        fleet = {A: ("custom.*",), B: ("custom.probe", "bot.*"), C: ()}
        known = Roster.of(fleet).bots
        roster = Roster(
            {
                A: replace(known[A], name="a", groups=("desk",)),
                B: replace(known[B], name="b", groups=("other",), answers=(Subscription(type="price.*"),)),
                C: replace(known[C], name="c", groups=("desk", "other")),
            },
            {"desk": (Subscription(type="desk.*"),), "other": (Subscription(type="other.*"),)},
        )
        self.memberships = {bot: member.groups for bot, member in roster.bots.items()}
        self.grants = {
            name: Grant(
                name, (Log.BOT,), f"{name}-{secrets.token_hex(16)}", hashlib.sha256(password.encode()).hexdigest(), "0"
            )
            for name, password in (("mal", MAL_PASSWORD), ("crm", secrets.token_urlsafe(16)))
        }
        """Programs outside; `mal` is the attacker's."""
        self.guard = GrantGuard(self.topology, lambda: list(self.grants), lambda group: [group])
        self.router = Router(
            routes,
            self.topology,
            lambda: roster,
            self.rejected.append,
            on_lost=lambda *lost: self.lost.append(lost),
            guard=self.guard,
        )
        self._clients = [self.redis, routes]
        self._tasks: list[asyncio.Task[Any]] = []
        self._raw: list[Raw] = []
        topology = self.topology
        self.names = {
            "a_out": topology.out(A), "a_in": topology.mailbox(A),
            "b_out": topology.out(B), "b_in": topology.mailbox(B),
            "out0": topology.out(0), "log": "t:events:user", "dead": topology.dead_letters, "marker": topology.marker,
            "desk": topology.group("desk"), "other": topology.group("other"),
            "a_user": topology.user(A), "b_user": topology.user(B), "bot_log": topology.log(Log.BOT),
            "mal_user": grant_user(topology, "mal"), "mal_password": MAL_PASSWORD,
            "mal_group": self.grants["mal"].group,
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[Ground]:
        """With both bots' users, entries in B's streams, one of them pending, and the router running."""
        await self.redis.flushall()
        await self.admin.ensure_logs()
        await self.admin.ensure_groups(["desk", "other"])
        await self.apply()
        await GrantAdmin(self.admin).ensure(self.grants.values())
        for key in ("b_in", "log", "dead", "other"):
            await self.redis.xadd(self.names[key], {"e": MARK})
        await self.redis.xreadgroup("bot", "bot", {self.names["b_in"]: ">"}, count=1)
        await self.redis.xadd(self.names["b_in"], {"e": MARK})
        self._tasks.append(asyncio.create_task(self.router.run()))
        self.me = self.open()
        try:
            yield self
        finally:
            for raw in self._raw:
                raw.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for client in self._clients:
                await client.aclose()

    async def apply(self) -> None:
        """Make or mend the users of all bots."""
        await self.admin.ensure_bots(
            {bot: [hashlib.sha256(password.encode()).hexdigest()] for bot, password in self.passwords.items()},
            self.memberships,
        )

    @property
    def attacker(self) -> Me:
        """A's credentials."""
        return Me(self.port, self.topology.user(A), self.passwords[A], self.names)

    def open(self, bot: int = A) -> Raw:
        """A connection of this bot's."""
        self._raw.append(Raw(self.port, self.topology.user(bot), self.passwords[bot]))
        return self._raw[-1]

    def open_as(self, user: str, password: str) -> Raw:
        """A connection of a user who is no bot."""
        self._raw.append(Raw(self.port, user, password))
        return self._raw[-1]

    def stranger(self) -> Raw:
        """A connection that nobody has logged in on."""
        self._raw.append(Raw(self.port))
        return self._raw[-1]

    def words(self, line: str) -> list[str]:
        """A command with the names of keys filled in."""
        return [word.format(**self.names) for word in line.split()]

    def outcome(self, command: Iterable[Word], raw: Raw | None = None) -> str:
        """How one command of A's ends."""
        try:
            reply = (raw or self.me).call(*command)
        except (OSError, EOFError):
            self.me = self.open()
            return "thrown out"
        return told(reply)

    def each(self, lines: Iterable[str | Iterable[Word]]) -> str:
        """The one outcome of all commands, or those that end otherwise than the first."""
        ends: dict[str, str] = {}
        for line in lines:
            words = self.words(line) if isinstance(line, str) else list(line)
            ends[str(line)] = self.outcome(words)
        assert ends
        kinds = sorted(set(ends.values()))
        if len(kinds) == 1:
            return kinds[0]
        return "; ".join(f"{kind}: {[line for line, end in ends.items() if end == kind][:3]}" for kind in kinds)

    def client(self, bot: int, *, blocking: bool = False) -> Any:
        """A client as the bot's process has it."""
        address = f"redis://127.0.0.1:{self.port}/0"
        client = connect(
            address, username=self.topology.user(bot), passwords=lambda: (self.passwords[bot],), blocking=blocking
        )
        self._clients.append(client)
        return client

    def relay(self, bot: int) -> tuple[Relay, Outbox]:
        """The bot's own relay, running, and its outbox."""
        outbox = Outbox()
        relay = Relay(self.client(bot), self.topology, bot, outbox)
        self._tasks.append(asyncio.create_task(relay.run()))
        return relay, outbox

    async def until(self, check: Callable[[], object], seconds: float = 20.0) -> float:
        """Seconds until the condition, plain or async, holds."""
        began = time.monotonic()
        while True:
            found = check()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, "the condition didn't come true in time"
            await asyncio.sleep(0.02)

    async def under(self, flood: Callable[[Me, float], None], seconds: float) -> Suffered:
        """What B suffers while A, in a process of its own, does this for so long, and until all of B's has come."""
        suffered = Suffered()
        process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(flood, self.attacker, seconds), daemon=True
        )
        relay, outbox = self.relay(B)
        sent: dict[str, float] = {}
        ending = asyncio.Event()
        reading = asyncio.create_task(self._receive(Mailbox(self.client(B, blocking=True), self.topology, B), sent,
                                                    suffered))  # fmt: skip
        beside = [reading, asyncio.create_task(self._knock(suffered)), asyncio.create_task(self._weigh(suffered))]
        self._tasks += beside
        outbox.put(probe("warm"))
        relay.wake()
        sent["warm"] = time.monotonic()
        await self.until(lambda: not sent)
        suffered.waited = 0.0
        process.start()
        try:
            number = 0
            deadline = time.monotonic() + seconds + 60
            while not ending.is_set():
                number += 1
                sent[str(number)] = time.monotonic()
                outbox.put(probe(str(number)))
                relay.wake()
                await asyncio.sleep(0.05)
                if not process.is_alive():
                    break
                assert time.monotonic() < deadline, "the flood doesn't end"
            await self.until(lambda: not sent, 60)
        finally:
            process.kill()
            process.join()
            for task in beside:
                task.cancel()
        assert not any(task.done() and not task.cancelled() and task.exception() for task in beside)
        return suffered

    async def _receive(self, mailbox: Mailbox, sent: dict[str, float], suffered: Suffered) -> None:
        while True:
            entries = await mailbox.read()
            now = time.monotonic()
            for entry in entries:
                if entry.event is not None and (at := sent.pop(entry.event.id, None)) is not None:
                    suffered.waited = max(suffered.waited, now - at)
            await mailbox.ack([entry.id for entry in entries])

    async def _knock(self, suffered: Suffered) -> None:
        """New connections of B's, as a bot that is restarted makes them."""
        since: float | None = None
        while True:
            client = connect(
                f"redis://127.0.0.1:{self.port}/0", username=self.topology.user(B),
                passwords=lambda: (self.passwords[B],),
            )  # fmt: skip
            began = time.monotonic()
            try:
                await client.ping()
            except AWAY:
                since = since or began
            else:
                suffered.shut_out = max(suffered.shut_out, time.monotonic() - (since or began))
                since = None
            finally:
                await client.aclose()
            if since:
                suffered.shut_out = max(suffered.shut_out, time.monotonic() - since)
            await asyncio.sleep(0.1)

    async def _weigh(self, suffered: Suffered) -> None:
        before = _own_memory()
        while True:
            suffered.router = max(suffered.router, _own_memory() - before)
            with contextlib.suppress(*AWAY):
                used = int((await self.redis.info("memory"))["used_memory_peak"]) >> 20
                suffered.memory = max(suffered.memory, used)
            await asyncio.sleep(0.05)


def _own_memory() -> int:
    """Megabytes of this process, in which the router runs and the flood doesn't."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


def _run(flood: Callable[[Me, float], None], me: Me, seconds: float) -> None:
    flood(me, time.monotonic() + seconds)


def probe(event_id: str, **data: Any) -> Event:
    """An event of B's own, that B subscribes to."""
    return Event(id=event_id, type="custom.probe", occurred_at=time.time(), data=data)


def body(event_id: str, event_type: str = "custom.tick", **more: Any) -> bytes:
    """An event as A writes it."""
    return encode_event(Event(**{"id": event_id, "type": event_type, "occurred_at": time.time()} | more))


def told(reply: Any) -> str:
    """What came back: other bots' words are the worst, then any answer."""
    if isinstance(reply, Refusal):
        if reply.startswith(_NONE):
            return REFUSED
        return f"refused ({reply.split()[0].rstrip(',')})"
    text = repr(reply)
    if MARK.decode() in text:
        return "words of B"
    return f"answered {text[:60]}"


def several(name: str, lines: str, must: str = REFUSED, *, weak: str | tuple[str, ...] = ()) -> None:
    """Declare an attack of several commands, separated by `|`, that all have to end alike."""
    wanted = [line.strip() for line in lines.replace("\n", "|").split("|") if line.strip()]

    async def function(ground: Ground) -> str:
        return ground.each(wanted)

    declare(name, must, weak=weak)(function)


def declare(name: str, must: str = REFUSED, *, weak: str | tuple[str, ...] = ()) -> Callable[[Attack], Attack]:
    """Declare an attack that is a function; `weak` are commands of an administrator after which it ends otherwise."""

    def wrap(function: Attack) -> Attack:
        attack(name, must, area=AREA)(function)
        if weak:
            WEAKENED[name] = (weak,) if isinstance(weak, str) else weak
        return function

    return wrap
