"""Keeps a bot that takes too much of the Redis server off it for a while: connections, buffers, consumers, memory.

An access list says which commands a user may call, never how often, over how many connections, how large.
Runs beside the router, on a connection of its own that it never gives up. Judges nobody for what he says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import ConnectionPool, Redis

from botctl.bus.caretaking.crowd import MOST_CONNECTIONS, Crowd
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.room import SCARCE
from botctl.bus.client import AWAY
from botctl.bus.reading.mailbox_groups import MAILBOX_CONSUMERS, begin_again, field_of
from botctl.bus.stream_reply import text_of
from botctl.bus.topology import Topology
from botctl.bus.wire import Command, execute

_log = structlog.get_logger("botctl.bus.caretaking.sentry")

LOOK_EVERY = 0.5
FIRST_PAUSE = 15.0
"""Seconds without Redis after the first offence; each further one within ten minutes doubles it."""

LONGEST_PAUSE = 240.0
_FORGIVEN_AFTER = 600.0
_SLOW = 0.1
"""Seconds for an answer of the server from which on somebody keeps it busy."""

_EXPECTED, _EXPECTED_A_USER = 32, 6
"""Connections of ours, and of each bot or program outside, that are nothing to look at."""

_KILL_EVERY = 10.0
_BUFFERS = 32 * 1024 * 1024
_MOST_STRANGERS = 2_000
_SERVERS_LOGS: tuple[Command, ...] = (
    ("ACL", "LOG", "RESET"),
    ("SLOWLOG", "RESET"),
    ("COMMANDLOG", "RESET", "large-request"),
    ("COMMANDLOG", "RESET", "large-reply"),
)
"""They keep keys and names as long as clients make them: a megabyte an entry, and no limit sees it."""


@dataclass(frozen=True)
class Offence:
    """Why a bot is kept off Redis, and for how many seconds."""

    bot_id: int
    what: str
    seconds: float


class Sentry:
    """`bots` gives the bots there are. `told` is called for each offence. `redis` needs CLIENT and ACL.

    `gate` is held while bots are let in again: whoever shuts all of them out holds it too.
    """

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        bots: Callable[[], Collection[int]],
        told: Callable[[Offence], None],
        *,
        first_pause: float = FIRST_PAUSE,
        guard: GrantGuard | None = None,
        gate: asyncio.Lock | None = None,
    ) -> None:
        self._gate = gate or asyncio.Lock()
        self._guard = guard
        """Judges programs outside by what is seen here."""
        self.paused = 0
        """How often a bot was sent off."""
        options: dict[str, Any] = dict(redis.connection_pool.connection_kwargs)
        # Once everybody else has taken the last connection it could not come back: patience instead of a new one.
        options |= {"socket_timeout": 60.0, "max_connections": 1}
        self._pool: Any = ConnectionPool(redis.connection_pool.connection_class, **options)
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._topology = topology
        self._bots = bots
        self._told = told
        self._first_pause = first_pause
        self._crowd = Crowd()
        self._until: dict[int, float] = {}
        self._why: dict[int, str] = {}
        """Of those that are kept off now."""
        self._pauses: dict[int, tuple[float, float]] = {}
        """By bot: its last pause in seconds, and when it began."""
        self._killed_at = -_KILL_EVERY
        self._compare = False
        """Whether the connections were looked at for a reason, so that a second look tells what goes on now."""
        self._accused: dict[int, str] = {}
        self._awake = asyncio.Event()

    def accuse(self, bot_id: int, what: str) -> None:
        """Somebody else has seen that this bot takes too much."""
        self._accused.setdefault(bot_id, what)
        self._awake.set()

    def kept_off(self) -> dict[int, tuple[str, float]]:
        """Bots that are kept off Redis now: why, and for how many seconds more."""
        now = time.monotonic()
        return {bot_id: (self._why[bot_id], max(0.0, until - now)) for bot_id, until in self._until.items()}

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except AWAY:
                    pass  # The router and the bus keeper tell of it.
                except Exception:
                    _log.exception("the sentry stumbles")
                self._awake.clear()
                if not self._accused:
                    try:
                        async with asyncio.timeout(LOOK_EVERY):
                            await self._awake.wait()
                    except TimeoutError:
                        continue
                else:
                    await asyncio.sleep(LOOK_EVERY / 10)
        finally:
            await self._pool.disconnect()

    async def look(self) -> None:
        """One round."""
        accused, self._accused = self._accused, {}
        for bot_id, what in accused.items():
            await self._send_off(bot_id, what)
        asked = time.monotonic()
        _, reply = await execute(self._redis, [("CLIENT", "NO-EVICT", "ON"), ("INFO", "clients", "memory")], timeout=60)
        slow = time.monotonic() - asked > _SLOW
        info = _numbers(reply)
        users = len(self._bots()) + (self._guard.count if self._guard is not None else 0)
        expected = _EXPECTED + _EXPECTED_A_USER * users
        crowded = info.get("connected_clients", 0) > expected
        full = 0 < SCARCE * info.get("maxmemory", 0) <= info.get("used_memory", 0)
        if full:
            await execute(self._redis, list(_SERVERS_LOGS), timeout=60)
        reason = crowded or full or slow or info.get("mem_clients_normal", 0) > _BUFFERS
        compare, self._compare = self._compare, reason
        if crowded and full and time.monotonic() - self._killed_at > _KILL_EVERY:
            await self._count_by_killing()
        elif reason or compare:
            await self._look_at_clients(strangers=crowded)
        if full:
            await self._look_at_mailboxes()
        await self._readmit()
        if self._guard is not None:
            await self._guard.look(self._redis)

    async def _look_at_clients(self, *, strangers: bool) -> None:
        try:
            (reply,) = await execute(self._redis, [("CLIENT", "LIST")], timeout=60)
        except AWAY:
            if time.monotonic() - self._killed_at > _KILL_EVERY:
                await self._count_by_killing()  # names may have made the list larger than a reply may be
            return
        if isinstance(reply, BaseException):
            return
        users = self._crowd.look(text_of(reply), time.monotonic())
        for bot_id in self._bots():
            usage = users.get(self._topology.user(bot_id))
            if usage is not None and (excess := usage.excess()) is not None:
                await self._send_off(bot_id, excess)
        if self._guard is not None:
            await self._guard.judge(self._redis, users)
        if strangers:
            unknown = [client for usage in users.values() for client in usage.strangers][:_MOST_STRANGERS]
            await execute(self._redis, [("CLIENT", "KILL", "ID", client) for client in unknown], timeout=60)

    async def _count_by_killing(self) -> None:
        """With a list that may be as large as the memory nobody is served; how many were killed tells whose they were.

        All bots connect anew at once; the one with too many doesn't.
        """
        self._killed_at = time.monotonic()
        bots = [bot_id for bot_id in self._bots() if bot_id]
        kills: list[Command] = [("CLIENT", "KILL", "USER", self._topology.user(bot_id)) for bot_id in bots]
        for bot_id, killed in zip(bots, await execute(self._redis, kills, timeout=60), strict=True):
            if isinstance(killed, int) and killed > MOST_CONNECTIONS:
                await self._send_off(bot_id, f"{killed} connections")
        if self._guard is not None:
            await self._guard.count_by_killing(self._redis)

    async def _look_at_mailboxes(self) -> None:
        bots = [bot_id for bot_id in self._bots() if bot_id]
        asked: list[Command] = [("XINFO", "GROUPS", self._topology.mailbox(bot_id)) for bot_id in bots]
        for bot_id, groups in zip(bots, await execute(self._redis, asked, timeout=60), strict=True):
            if isinstance(groups, BaseException):
                continue
            consumers = max((int(field_of(group, "consumers") or 0) for group in groups), default=0)
            if consumers > MAILBOX_CONSUMERS:
                await self._send_off(bot_id, f"{consumers} consumers in its mailbox")

    async def _send_off(self, bot_id: int, what: str) -> None:
        """Its connections end and its login is off; what its mailbox has of its consumers goes, entries stay."""
        now = time.monotonic()
        last, began = self._pauses.get(bot_id, (0.0, 0.0))
        again = last > 0 and now - began < _FORGIVEN_AFTER
        seconds = min(LONGEST_PAUSE, last * 2) if again else self._first_pause
        user = self._topology.user(bot_id)
        (known,) = await execute(self._redis, [("ACL", "GETUSER", user)], timeout=60)
        if known is None:
            return  # In quarantine, or removed: SETUSER would make it.
        if bot_id not in self._until:
            self._pauses[bot_id] = (seconds, now)
            self._until[bot_id] = now + seconds
            self._why[bot_id] = what
            self.paused += 1
            _log.warning("bot is kept off Redis for a while", bot_id=bot_id, reason=what, seconds=seconds)
            self._told(Offence(bot_id, what, seconds))
        await execute(self._redis, [("ACL", "SETUSER", user, "off"), ("CLIENT", "KILL", "USER", user)], timeout=60)
        await begin_again(self._redis, self._topology.mailbox(bot_id))

    async def _readmit(self) -> None:
        now = time.monotonic()
        for bot_id in [bot_id for bot_id, until in self._until.items() if until <= now]:
            user = self._topology.user(bot_id)
            async with self._gate:
                (known,) = await execute(self._redis, [("ACL", "GETUSER", user)], timeout=60)
                if known is not None and not isinstance(known, BaseException):
                    await execute(self._redis, [("ACL", "SETUSER", user, "on")], timeout=60)
                    _log.info("bot may use Redis again", bot_id=bot_id)
            del self._until[bot_id], self._why[bot_id]  # not before: what is cut short here is done by the next look


def _numbers(info: Any) -> dict[str, int]:
    """The whole numbers of an answer to INFO."""
    if isinstance(info, BaseException):
        return {}
    pairs = (line.partition(":") for line in text_of(info).splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}
