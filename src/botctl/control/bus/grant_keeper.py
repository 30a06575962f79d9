"""Keeps users and groups of programs outside as the registry says, again whenever Redis has lost them.

Called by the bus keeper, which knows when that is. Without the database it changes nothing: those there are stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grants import Grant, GrantAdmin
from botctl.bus.events import Log
from botctl.bus.reading.lag import Lag
from botctl.bus.stream_reply import entry_order
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import grants as registry
from botctl.storage.grants import StoredGrant
from botctl.storage.outbox import ALL

_log = structlog.get_logger("botctl.control.grants")

LOOK_EVERY = 30.0
"""Seconds after which it is looked whether a group has gone without the server's having begun anew."""

ON_THE_WAY = 60.0
"""Seconds, at most, from an event's id in a log to its mark in the outbox, by which it comes again."""

_TRY_AGAIN_AFTER = 1.0


class GrantKeeper:
    """`last_lags` gives the lags measured last, `on_dropped` is told what a reader has lost with a server's data."""

    def __init__(
        self,
        engine: AsyncEngine,
        admin: GrantAdmin,
        last_lags: Callable[[], Sequence[Lag]],
        on_dropped: Callable[[Dropped], None],
    ) -> None:
        self.grants: dict[str, StoredGrant] = {}
        self.complete = False
        """Whether the registry was read: until then nothing is swept away as unknown."""
        self.comes_again_from = 0.0
        """From when on a server that began anew is given all events again, in seconds since the epoch."""
        self._engine = engine
        self._admin = admin
        self._last_lags = last_lags
        self._on_dropped = on_dropped
        self._fresh: set[str] = set()
        """Grants whose groups were not made yet, and begin with the next event."""
        self._changed = False
        self._looked = 0.0

    def names(self) -> list[str]:
        """Of all grants."""
        return list(self.grants)

    def sharing(self, group: str) -> list[str]:
        """Grants that read as the group of this readable name."""
        return [grant.name for grant in self.grants.values() if grant.group_name == group]

    async def run(self) -> None:
        """Read the registry; the database being away is waited out. Returns only when cancelled."""
        while not self.complete:
            try:
                async with self._engine.connect() as connection:
                    stored = await registry.read(connection)
            except DATABASE_TROUBLE as error:
                _log.warning("programs outside are not known yet", reason=database_reason(error))
                await asyncio.sleep(_TRY_AGAIN_AFTER)
            else:
                self.grants = {grant.name: grant for grant in stored} | self.grants
                self.complete = self._changed = True
        await asyncio.Event().wait()

    def add(self, grant: StoredGrant, *, at_end: bool) -> None:
        """It was stored. `at_end`: it is given what comes from now on."""
        self.grants[grant.name] = grant
        if at_end:
            self._fresh.add(grant.name)
        self._changed = True

    async def remove(self, name: str) -> None:
        """It was revoked. Raises what Redis raises when it is away; its user goes then when Redis is back."""
        self.grants.pop(name, None)
        self._fresh.discard(name)
        self._changed = True
        await self._admin.drop(name)

    async def keep(self, anew: bool) -> None:
        """Make what is missing; `anew`: the server may know nothing. Raises what Redis raises."""
        if not (anew or self._changed or time.monotonic() - self._looked > LOOK_EVERY):
            return
        self._changed = False
        self._looked = time.monotonic()
        try:
            grants = [grant_of(stored) for stored in self.grants.values()]
            fresh = set(self._fresh)
            made = await self._admin.ensure(grants, at_end=fresh, anew=anew) if grants else []
            if self.complete:
                await self._admin.sweep(grants)
        except BaseException:
            self._changed = True
            raise
        self._fresh -= fresh
        for grant, log in made:
            if grant.name not in fresh:
                self._tell(grant, log)

    def _tell(self, grant: Grant, log: Log) -> None:
        """Its group had gone, and with it perhaps events that it had not read."""
        lag = next((one for one in self._last_lags() if one.reader == f"grant:{grant.name}" and one.log == log), None)
        if lag is None:
            return  # There never was one since this process began; what the log has is read from where it was granted.
        _log.warning("the group of a program outside had gone and was made again", grant=grant.name, log=log.value)
        again = int(((self.comes_again_from or time.time() - ALL) + ON_THE_WAY) * 1000)
        if lag.oldest and entry_order(lag.oldest)[0] < again:
            lost = Dropped(lag.stream, lag.reader, lag.unread + lag.pending, lag.oldest, f"{again}-0", "redis")
            self._on_dropped(lost)


def grant_of(stored: StoredGrant) -> Grant:
    """As the bus wants it."""
    return Grant(
        name=stored.name,
        logs=tuple(Log(log) for log in stored.logs),
        group=f"{stored.group_name}-{stored.group_key}",
        password_sha256=stored.password_sha256,
        start=stored.start_id,
    )
