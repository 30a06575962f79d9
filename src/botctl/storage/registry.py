"""The registry: which bots there are, as configured, and the state of their credentials. For `control` only.

Holds no secret: of tokens a fingerprint, of Redis passwords the hash that the server gets, of database ones nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class RegisteredBot:
    """One row of `bots`; `config` is the bot without any secret."""

    bot_id: int
    name: str
    enabled: bool
    token_fingerprint: str
    config: dict[str, Any]
    managed_by: str = "file"
    removed: bool = False


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """What is known of a bot's credentials. An empty hash: the bot has no login any more. `rotated_at` is in seconds
    since the epoch, when it was read."""

    bot_id: int
    generation: int
    redis_password_sha256: str
    rotated_at: float = 0.0


_SAVE = """
    INSERT INTO bots (bot_id, name, managed_by, enabled, token_fingerprint, config)
    SELECT bot_id, name, 'file', enabled, token_fingerprint, config::jsonb
    FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[], $5::text[])
         AS row (bot_id, name, enabled, token_fingerprint, config)
    ON CONFLICT (bot_id) DO UPDATE SET
        name = excluded.name, managed_by = excluded.managed_by, enabled = excluded.enabled,
        token_fingerprint = excluded.token_fingerprint, config = excluded.config, updated_at = now(), removed_at = NULL
    WHERE (bots.name, bots.enabled, bots.token_fingerprint, bots.config)
          IS DISTINCT FROM (excluded.name, excluded.enabled, excluded.token_fingerprint, excluded.config)
       OR bots.removed_at IS NOT NULL"""

_SAVE_CREDENTIALS = """
    INSERT INTO bot_credentials (bot_id, generation, redis_password_sha256) VALUES ($1, $2, $3)
    ON CONFLICT (bot_id) DO UPDATE SET
        generation = excluded.generation, redis_password_sha256 = excluded.redis_password_sha256, rotated_at = now()"""


async def read_bots(connection: AsyncConnection) -> list[RegisteredBot]:
    """Every bot that was ever registered, removed ones included, by bot_id."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id, name, enabled, token_fingerprint, config::text, managed_by, removed_at IS NOT NULL"
        " FROM bots ORDER BY bot_id"
    )
    rows: Sequence[Any] = result.all()
    return [
        RegisteredBot(bot_id, name, enabled, fingerprint, msgspec.json.decode(config), managed_by, removed)
        for bot_id, name, enabled, fingerprint, config, managed_by, removed in rows
    ]


async def find_bot(connection: AsyncConnection, name: str) -> int | None:
    """The bot that has this name, or had it last; None when there never was one."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id FROM bots WHERE name = $1 ORDER BY removed_at DESC NULLS FIRST LIMIT 1", (name,)
    )
    bot_id: int | None = result.scalar_one_or_none()
    return bot_id


async def save_bots(connection: AsyncConnection, bots: Sequence[RegisteredBot]) -> None:
    """Register these bots as the fleet file's. A row that says the same already is left untouched."""
    if not bots:
        return
    await connection.exec_driver_sql(
        _SAVE,
        (
            [bot.bot_id for bot in bots],
            [bot.name for bot in bots],
            [bot.enabled for bot in bots],
            [bot.token_fingerprint for bot in bots],
            [msgspec.json.encode(bot.config).decode() for bot in bots],
        ),
    )


async def mark_removed(connection: AsyncConnection, bot_ids: Iterable[int]) -> None:
    """These bots are no longer in the file; their data stays."""
    await connection.exec_driver_sql(
        "UPDATE bots SET removed_at = now(), updated_at = now()"
        " WHERE bot_id = ANY($1::bigint[]) AND removed_at IS NULL AND managed_by = 'file'",
        (list(bot_ids),),
    )


async def read_credentials(connection: AsyncConnection) -> dict[int, StoredCredentials]:
    """By bot_id."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id, generation, redis_password_sha256, extract(epoch FROM rotated_at)::float8 FROM bot_credentials"
    )
    rows: Sequence[Any] = result.all()
    return {row[0]: StoredCredentials(*row) for row in rows}


async def save_credentials(connection: AsyncConnection, credentials: StoredCredentials) -> None:
    """Remember a generation; an empty hash notes that the bot's login was dropped."""
    await connection.exec_driver_sql(
        _SAVE_CREDENTIALS, (credentials.bot_id, credentials.generation, credentials.redis_password_sha256)
    )
