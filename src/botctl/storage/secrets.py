"""Wrapped data keys, and secrets sealed with them, as they lie in the database. For `control` only.

Nothing here can open anything: who calls it has the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

_ADD_KEY = """
    INSERT INTO bot_keys (bot_id, key_id, master_version, master_check, wrapped)
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::bytea[])"""

_NOTE_NEWEST = """
    UPDATE bots SET newest_key_id = fresh.key_id FROM unnest($1::bigint[], $2::int[]) AS fresh (bot_id, key_id)
    WHERE bots.bot_id = fresh.bot_id AND bots.newest_key_id < fresh.key_id"""

# A key that another process has rewrapped meanwhile is left alone.
_REWRAP = """
    UPDATE bot_keys AS key
    SET master_version = fresh.master_version, master_check = fresh.master_check, wrapped = fresh.wrapped
    FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::bytea[], $6::int[])
         AS fresh (bot_id, key_id, master_version, master_check, wrapped, before)
    WHERE key.bot_id = fresh.bot_id AND key.key_id = fresh.key_id AND key.master_version = fresh.before"""

_SAVE_SECRET = """
    INSERT INTO bot_secrets (bot_id, name, key_id, sealed) VALUES ($1, $2, $3, $4)
    ON CONFLICT (bot_id, name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, set_at = now()"""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One row of `bot_keys`; times in seconds since the epoch."""

    bot_id: int
    key_id: int
    master_version: int
    master_check: str
    wrapped: bytes
    created_at: float = 0.0
    retired_at: float | None = None


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """One row of `bot_secrets`; `set_at` in seconds since the epoch."""

    bot_id: int
    name: str
    key_id: int
    sealed: bytes
    set_at: float = 0.0


async def read_keys(connection: AsyncConnection) -> list[WrappedKey]:
    """Every data key, by bot_id and key_id."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id, key_id, master_version, master_check, wrapped, extract(epoch FROM created_at)::float8,"
        " extract(epoch FROM retired_at)::float8 FROM bot_keys ORDER BY bot_id, key_id"
    )
    rows: Sequence[Any] = result.all()
    return [WrappedKey(*row) for row in rows]


async def add_keys(connection: AsyncConnection, keys: Sequence[WrappedKey]) -> None:
    """Store new data keys. Raises IntegrityError when one of that id is there already."""
    if keys:
        await connection.exec_driver_sql(_ADD_KEY, _columns(keys))
        await connection.exec_driver_sql(_NOTE_NEWEST, _columns(keys)[:2])


async def read_newest(connection: AsyncConnection) -> dict[int, int]:
    """Number of the newest data key that each bot was ever given, whether it is still there or not."""
    result = await connection.exec_driver_sql("SELECT bot_id, newest_key_id FROM bots WHERE newest_key_id > 0")
    rows: Sequence[Any] = result.all()
    return {row[0]: row[1] for row in rows}


async def rewrap(connection: AsyncConnection, keys: Sequence[WrappedKey], before: int) -> int:
    """Replace how these keys are wrapped, where they still are by master key version `before`; returns how many."""
    if not keys:
        return 0
    result = await connection.exec_driver_sql(_REWRAP, (*_columns(keys), [before] * len(keys)))
    return int(result.rowcount)


async def retire_keys(connection: AsyncConnection, bot_id: int, newest: int) -> None:
    """Note that all keys of a bot but the newest seal nothing any more; they go on opening what they have sealed."""
    await connection.exec_driver_sql(
        "UPDATE bot_keys SET retired_at = now() WHERE bot_id = $1 AND key_id < $2 AND retired_at IS NULL",
        (bot_id, newest),
    )


async def drop_keys(connection: AsyncConnection, bot_id: int, older_than: int, retired_for: float) -> list[int]:
    """Forget the keys of a bot before this one that have sealed nothing for so many seconds; which. Needs the owner."""
    result = await connection.exec_driver_sql(
        "DELETE FROM bot_keys WHERE bot_id = $1 AND key_id < $2 AND retired_at < now() - make_interval(secs => $3)"
        " RETURNING key_id",
        (bot_id, older_than, retired_for),
    )
    return sorted(int(key_id) for key_id in result.scalars())


async def read_secrets(connection: AsyncConnection, bot_id: int | None = None) -> list[SealedSecret]:
    """Sealed secrets of one bot, or of all."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id, name, key_id, sealed, extract(epoch FROM set_at)::float8 FROM bot_secrets"
        " WHERE $1::bigint IS NULL OR bot_id = $1 ORDER BY bot_id, name",
        (bot_id,),
    )
    rows: Sequence[Any] = result.all()
    return [SealedSecret(*row) for row in rows]


async def save_secret(connection: AsyncConnection, secret: SealedSecret) -> None:
    """Keep a secret, in the place of an earlier one of that name."""
    await connection.exec_driver_sql(_SAVE_SECRET, (secret.bot_id, secret.name, secret.key_id, secret.sealed))


async def reseal_secret(connection: AsyncConnection, secret: SealedSecret) -> None:
    """The same secret, sealed with another key."""
    await connection.exec_driver_sql(
        "UPDATE bot_secrets SET key_id = $3, sealed = $4 WHERE bot_id = $1 AND name = $2",
        (secret.bot_id, secret.name, secret.key_id, secret.sealed),
    )


def _columns(keys: Sequence[WrappedKey]) -> tuple[list[Any], ...]:
    return (
        [key.bot_id for key in keys],
        [key.key_id for key in keys],
        [key.master_version for key in keys],
        [key.master_check for key in keys],
        [key.wrapped for key in keys],
    )
