"""Seals anew what older data keys of one bot have sealed, row by row, while the bot works. As the tables' owner.

Nobody but the administrator may do this: neither bots nor `control` may change what a message says. It may end at any
moment: each row is sealed by one key wholly, and what is left is found again. Rows that somebody holds are left for
later. Who calls it has the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.errors import VaultError
from botctl.storage.sealing import Sealing, sealed_bytes

BATCH = 200
"""Rows in one transaction; a bot that wants one of them waits for some 20 ms."""


@dataclass(frozen=True, slots=True)
class _Table:
    """`key` and its types, without bot_id; columns that may be sealed."""

    name: str
    key: dict[str, str]
    texts: tuple[str, ...] = ()
    jsons: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.texts, *self.jsons)


TABLES = (
    _Table("messages", {"message_id": "bigint"}, ("text",), ("entities",)),
    _Table("inbox", {"inbox_id": "bigint"}, ("last_error",), ("payload",)),
    _Table("attempts", {"inbox_id": "bigint", "attempt_id": "bigint"}, ("error", "traceback")),
    _Table("sends", {"cause": "text", "n": "int"}, ("error",), ("payload", "result")),
    _Table("completions", {"cause": "text", "step": "int"}, (), ("response",)),
    _Table("outbox", {"seq": "bigint"}, (), ("data",)),
    _Table("requests", {"request_id": "text"}, (), ("reply",)),
    _Table("jobs", {"name": "text"}, (), ("data",)),
    _Table("kept_data", {"kind": "text", "owner": "text"}, ("value",)),
)
"""Every column that a bot seals."""


@dataclass(slots=True)
class Resealed:
    """What came of it: rows sealed anew, those that somebody held or that came in between, and what can't be opened."""

    rows: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)


class Resealer:
    """`sealing` seals with the newest key and opens with all; `old` tells whether a sealed value is of another key."""

    def __init__(
        self, engine: AsyncEngine, bot_id: int, sealing: Sealing, old: Callable[[bytes], bool], *, batch: int = BATCH
    ) -> None:
        self._engine = engine
        self._bot = f"{int(bot_id)}"
        self._sealing = sealing
        self._old = old
        self._batch = batch

    async def run(self) -> Resealed:
        """Once through all tables; run it again until nothing is left."""
        done = Resealed()
        for table in TABLES:
            after: Sequence[Any] | None = None
            while True:
                async with self._engine.begin() as connection:
                    await connection.exec_driver_sql("SET LOCAL ROLE botctl_owner")
                    after = await self._some(connection, table, after, done)
                if after is None:
                    break
        return done

    async def left(self) -> int:
        """How many rows are still sealed with an old key. Reads every sealed row."""
        found = 0
        for table in TABLES:
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql("SET LOCAL ROLE botctl_owner")
                after: Sequence[Any] | None = None
                while rows := await self._read(connection, table, after, ""):
                    after = rows[-1][: len(table.key)]
                    found += sum(self._is_old(table, row) for row in rows)
        return found

    async def _some(
        self, connection: AsyncConnection, table: _Table, after: Sequence[Any] | None, done: Resealed
    ) -> Sequence[Any] | None:
        """Seal some rows anew; the key of the last one that was looked at, None at the end."""
        rows = await self._read(connection, table, after, "FOR NO KEY UPDATE SKIP LOCKED")
        changed = [row for row in (self._sealed(table, row, done) for row in rows) if row is not None]
        if changed:
            await self._write(connection, table, changed)
            done.rows += len(changed)
        return rows[-1][: len(table.key)] if rows else None

    async def _read(
        self, connection: AsyncConnection, table: _Table, after: Sequence[Any] | None, lock: str
    ) -> list[Any]:
        key = ", ".join(table.key)
        values = ", ".join(f"{column}::text" for column in table.columns)
        marked = [f"{one} LIKE '$sealed:%' OR {one} LIKE '/$sealed:%'" for one in table.texts]
        marked += [f"{one} ? '$sealed'" for one in table.jsons]
        beyond = ", ".join(f"${n + 1}::{kind}" for n, kind in enumerate(table.key.values()))
        result = await connection.exec_driver_sql(
            f"SELECT {key}, {values} FROM {table.name} WHERE bot_id = {self._bot} AND ({' OR '.join(marked)})"
            + (f" AND ({key}) > ({beyond})" if after is not None else "")
            + f" ORDER BY {key} LIMIT {self._batch} {lock}",
            tuple(after or ()),
        )
        return list(result.all())

    async def _write(self, connection: AsyncConnection, table: _Table, rows: list[tuple[Any, ...]]) -> None:
        names = [*table.key, *table.columns]
        kinds = [*table.key.values(), *("text" for _ in table.columns)]
        given = ", ".join(f"${n + 1}::{kind}[]" for n, kind in enumerate(kinds))
        values = [f"{one} = fresh.{one}" for one in table.texts]
        values += [f"{one} = fresh.{one}::jsonb" for one in table.jsons]
        same = " AND ".join(f"kept.{one} = fresh.{one}" for one in table.key)
        await connection.exec_driver_sql(
            f"UPDATE {table.name} AS kept SET {', '.join(values)}"
            f" FROM unnest({given}) AS fresh ({', '.join(names)}) WHERE kept.bot_id = {self._bot} AND {same}",
            tuple(list(column) for column in zip(*rows, strict=True)),
        )

    def _is_old(self, table: _Table, row: Sequence[Any]) -> bool:
        return any((sealed := sealed_bytes(value)) is not None and self._old(sealed) for value in row[len(table.key) :])

    def _sealed(self, table: _Table, row: Sequence[Any], done: Resealed) -> tuple[Any, ...] | None:
        if not self._is_old(table, row):
            return None
        fresh = list(row)
        try:
            for at, column in enumerate(table.columns, len(table.key)):
                sealed = sealed_bytes(row[at])
                if sealed is None or not self._old(sealed):
                    continue
                if column in table.texts:
                    fresh[at] = self._sealing.text(
                        table.name, column, self._sealing.read_text(table.name, column, row[at])
                    )
                else:
                    fresh[at] = self._sealing.json(
                        table.name, column, self._sealing.read_json(table.name, column, row[at])
                    )
        except VaultError as error:
            done.faults.append(error.message)
            return None
        return tuple(fresh)
