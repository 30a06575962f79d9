"""Whether the server is still the one on which all is made, with its data: on another one nothing may be routed."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.asyncio import Redis

from botctl.bus.caretaking.identity import identity
from botctl.bus.topology import Topology
from botctl.bus.wire import Line


class StrangeServerError(Exception):
    """Not the server on which all is made, or not with its data."""


class Recognition:
    """`server` gives the identity of the right one (`caretaking/identity.py`), None while there is none.

    Without it every server is right.
    """

    def __init__(self, topology: Topology, server: Callable[[], str | None] | None) -> None:
        self._topology = topology
        self._server = server
        self._known_since = 0.0
        """When it was last found to be the right one, on the monotonic clock."""

    async def recognise(self, redis: Redis | Line) -> None:
        """Raises StrangeServerError, and what Redis raises."""
        if self._server is None:
            return
        known, now = self._server(), time.monotonic()
        if known is None or await identity(redis, self._topology) != known:
            raise StrangeServerError
        self._known_since = now

    async def recognise_anew(self, held: Line) -> None:
        """The same, if the connection is younger than what is known."""
        if held.since >= self._known_since:
            await self.recognise(held)
