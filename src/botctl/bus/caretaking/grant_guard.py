"""Keeps a program outside that takes too much of the Redis server off it for a while, as the sentry does with bots.

Looked at by the sentry, on its connection. What is judged: connections, buffers, traffic, and what its consumer groups
hold. A grantee is nobody's bot: it is told in the log and in `botctl events grants`, and scores no points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import structlog
from redis.asyncio import Redis

from botctl.bus.caretaking.crowd import MOST_CONNECTIONS, Usage
from botctl.bus.caretaking.grant_limits import tame
from botctl.bus.caretaking.grants import grant_user
from botctl.bus.topology import Topology
from botctl.bus.wire import Command, execute

_log = structlog.get_logger("botctl.bus.guard")

FIRST_PAUSE = 15.0
LONGEST_PAUSE = 240.0
_FORGIVEN_AFTER = 600.0


class GrantGuard:
    """`names` gives the grants there are; `sharing` those whose group has this readable name."""

    def __init__(
        self,
        topology: Topology,
        names: Callable[[], Collection[str]],
        sharing: Callable[[str], Collection[str]],
        *,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.paused = 0
        """How often one was sent off."""
        self._topology = topology
        self._names = names
        self._sharing = sharing
        self._first_pause = first_pause
        self._until: dict[str, float] = {}
        self._why: dict[str, str] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        self._accused: dict[str, str] = {}

    def accuse(self, group: str, what: str) -> None:
        """Somebody else has found too much in the group of this readable name."""
        self._accused.setdefault(group, what)

    @property
    def count(self) -> int:
        """How many grants there are."""
        return len(self._names())

    def kept_off(self) -> dict[str, tuple[str, float]]:
        """Grants that are kept off Redis now: why, and for how many seconds more."""
        now = time.monotonic()
        return {name: (self._why[name], max(0.0, until - now)) for name, until in self._until.items()}

    async def judge(self, redis: Redis, users: Mapping[str, Usage]) -> None:
        """By what their connections take."""
        for name in list(self._names()):
            usage = users.get(grant_user(self._topology, name))
            if usage is not None and (excess := usage.excess()) is not None:
                await self._send_off(redis, name, excess)

    async def count_by_killing(self, redis: Redis) -> None:
        """Where a list of all connections is too large to be had: how many were killed tells whose they were."""
        names = list(self._names())
        kills: list[Command] = [("CLIENT", "KILL", "USER", grant_user(self._topology, name)) for name in names]
        for name, killed in zip(names, await execute(redis, kills, timeout=60), strict=True):
            if isinstance(killed, int) and killed > MOST_CONNECTIONS:
                await self._send_off(redis, name, f"{killed} connections")

    async def look(self, redis: Redis) -> None:
        """By what their groups hold; and let in again whose time is over."""
        accused, self._accused = self._accused, {}
        if self._names():
            for group, what in (accused | await tame(redis, self._topology)).items():
                for name in self._sharing(group):
                    await self._send_off(redis, name, what)
        now = time.monotonic()
        for name in [name for name, until in self._until.items() if until <= now]:
            if name in self._names():
                await execute(redis, [("ACL", "SETUSER", grant_user(self._topology, name), "on")], timeout=60)
                _log.info("program may use Redis again", grant=name)
            del self._until[name], self._why[name]

    async def _send_off(self, redis: Redis, name: str, what: str) -> None:
        now, user = time.monotonic(), grant_user(self._topology, name)
        (known,) = await execute(redis, [("ACL", "GETUSER", user)], timeout=60)
        if known is None:
            return  # Revoked: SETUSER would make it.
        if name not in self._until:
            last, began = self._pauses.get(name, (0.0, 0.0))
            again = last > 0 and now - began < _FORGIVEN_AFTER
            seconds = min(LONGEST_PAUSE, last * 2) if again else self._first_pause
            self._pauses[name], self._until[name], self._why[name] = (seconds, now), now + seconds, what
            self.paused += 1
            _log.warning("program is kept off Redis for a while", grant=name, reason=what, seconds=seconds)
        await execute(redis, [("ACL", "SETUSER", user, "off"), ("CLIENT", "KILL", "USER", user)], timeout=60)
