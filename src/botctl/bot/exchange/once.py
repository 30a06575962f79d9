"""`bot.once(key)`: true for the one handling that does something, and for every replay of it.

A key is held by its cause from the call on, also over a crash, and taken for good by the commit that ends the handling;
if the handling fails, it is free again. Who asks for a key that is held waits until that is decided.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from botctl.bot.database import Database
from botctl.bot.handling.scope import Scope, active
from botctl.storage.once import OnceKeys

LONGEST_KEY = 200

PATIENCE = 60.0
"""Seconds to wait for a handling that holds the key, whether it is under way or, as after a crash, not yet again."""

_LOOK_EVERY = 0.25


class OnceBusyError(RuntimeError):
    """A key is held by another handling that doesn't end, or waits for this one; this one is tried again later."""


class Once:
    """Of one bot. Knows which handlings under way hold keys, to wait for their ends."""

    def __init__(self, database: Database, keys: OnceKeys) -> None:
        self._database = database
        self._keys = keys
        self._holding: dict[str, Scope] = {}
        """Handlings under way that hold keys, by cause."""
        self._waits: dict[str, list[str]] = {}
        """By cause: for whose ends it waits; it may ask for several keys side by side."""

    async def take(self, key: str) -> bool:
        """Raises ValueError for an empty or too long key, OnceBusyError."""
        if not key or len(key) > LONGEST_KEY or "\0" in key:
            raise ValueError(f"a key has 1 to {LONGEST_KEY} characters")
        scope = active()
        if scope is None:
            return await self._take(key, Scope.operation(), for_good=True)
        mine = await self._take(key, scope, for_good=False)
        if mine and self._holding.get(scope.cause) is not scope:
            self._holding = {cause: one for cause, one in self._holding.items() if not one.over.is_set()}
            self._holding[scope.cause] = scope
            scope.kept.append(lambda connection: self._keys.keep(connection, scope.cause))
        return mine

    async def _take(self, key: str, scope: Scope, *, for_good: bool) -> bool:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + PATIENCE
        while True:
            if await self._database.statement(
                lambda connection: self._keys.take(connection, key, scope.cause, for_good=for_good)
            ):
                return True
            state, holder = await self._database.statement(lambda connection: self._keys.look(connection, key))
            if state == "taken":
                return False
            if loop.time() > give_up:
                raise OnceBusyError(f"the key {key!r} is held by {holder}, which does not end")
            if state == "held":
                await self._wait(scope.cause, holder, give_up)

    async def _wait(self, cause: str, holder: str, until: float) -> None:
        if self._leads(holder, cause):
            raise OnceBusyError("two handlings wait for keys of bot.once() that the other one holds")
        under_way = self._holding.get(holder)
        self._waits.setdefault(cause, []).append(holder)
        try:
            if under_way is None or under_way.over.is_set():
                await asyncio.sleep(_LOOK_EVERY)
            else:
                with suppress(TimeoutError):  # whoever called looks once more, and gives up
                    async with asyncio.timeout_at(until):
                        await under_way.over.wait()
        finally:
            self._waits[cause].remove(holder)
            if not self._waits[cause]:
                del self._waits[cause]

    def _leads(self, start: str, goal: str) -> bool:
        """Whether one waits for the other, perhaps through others."""
        seen, ahead = set[str](), [start]
        while ahead:
            if (one := ahead.pop()) == goal:
                return True
            if one not in seen:
                seen.add(one)
                ahead += self._waits.get(one, ())
        return False
