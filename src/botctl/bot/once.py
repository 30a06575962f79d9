"""`bot.once(key)`: true for the one handling that does something, committed with it.

A key belongs to the cause that has taken it, so that a replay of the same cause is told the same. Until the handling
ends, others who ask for its key wait: if it fails, the key is free again.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.scope import Scope, active
from botctl.storage.once import OnceKeys

LONGEST_KEY = 200
_FEW = 256
"""Keys of handlings that are over, kept until there are so many."""


class OnceDeadlockError(RuntimeError):
    """Two handlings wait for keys that the other one has taken; this one gives way and is tried again."""


class Once:
    """The keys that handlings under way have taken, and those in the database."""

    def __init__(self, database: Database, keys: OnceKeys) -> None:
        self._database = database
        self._keys = keys
        self._holders: dict[str, Scope] = {}
        self._sweep_at = _FEW
        self._waits: dict[int, Scope] = {}
        """By handling (id of its scope): whom it waits for."""

    async def take(self, key: str) -> bool:
        """Raises ValueError for an empty or too long key, OnceDeadlockError."""
        if not key or len(key) > LONGEST_KEY or "\0" in key:
            raise ValueError(f"a key has 1 to {LONGEST_KEY} characters")
        scope = active()
        alone = scope is None
        scope = scope or Scope.operation()
        self._sweep()
        while (holder := self._holder(key)) is not None and holder is not scope:
            await self._wait(scope, holder)
        self._holders[key] = scope
        try:
            taken_by = await self._database.statement(lambda connection: self._keys.holder(connection, key))
            mine = taken_by in (None, scope.cause)
            if mine and taken_by is None:
                await self._keep(scope, key, alone=alone)
        except BaseException:
            self._holders.pop(key, None)
            raise
        if alone or not mine:
            self._holders.pop(key, None)
        return mine

    async def _keep(self, scope: Scope, key: str, *, alone: bool) -> None:
        async def add(connection: AsyncConnection) -> None:
            await self._keys.add(connection, key, scope.cause)

        if alone:
            await self._database.statement(add)
        else:
            scope.kept.append(add)

    def _sweep(self) -> None:
        if len(self._holders) >= self._sweep_at:
            self._holders = {key: scope for key, scope in self._holders.items() if not scope.over.is_set()}
            self._sweep_at = max(_FEW, 2 * len(self._holders))

    def _holder(self, key: str) -> Scope | None:
        """The handling under way that has the key."""
        holder = self._holders.get(key)
        if holder is not None and holder.over.is_set():
            del self._holders[key]
            return None
        return holder

    async def _wait(self, scope: Scope, holder: Scope) -> None:
        seen: Scope | None = holder
        while seen is not None:
            if seen is scope:
                raise OnceDeadlockError("two handlings wait for keys of bot.once() that the other one has taken")
            seen = self._waits.get(id(seen))
        self._waits[id(scope)] = holder
        try:
            await holder.over.wait()
        finally:
            self._waits.pop(id(scope), None)
