"""The incarnations of bots: when each began, became ready and ended, and how. Written by `control` only.

Every write may be repeated: `control` stores a lifecycle record again when it can't know that it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One row of `bot_runs` with the bot's name; times in seconds since the epoch."""

    bot_id: int
    name: str
    incarnation: int
    pid: int | None
    started_at: float
    ready_at: float | None
    ended_at: float | None
    failure: str | None
    exit: str | None
    detail: str | None


_OPEN = """
    INSERT INTO bot_runs (bot_id, incarnation, pid, started_at, lifecycle_seq)
    SELECT $1, $2, $3, $4, $5
    WHERE NOT EXISTS (SELECT FROM bot_runs WHERE bot_id = $1 AND incarnation = $2 AND started_at = $4)"""

_LATEST = "(SELECT max(run_id) FROM bot_runs WHERE bot_id = $1 AND incarnation = $2)"

_PROGRESS = f"""
    UPDATE bot_runs SET pid = coalesce(pid, $3), ready_at = coalesce(ready_at, $4), lifecycle_seq = $5
    WHERE bot_id = $1 AND run_id = {_LATEST} AND lifecycle_seq < $5 AND ended_at IS NULL"""

_CLOSE = f"""
    UPDATE bot_runs SET pid = coalesce(pid, $3), ended_at = $4, failure = $6, exit = $7, detail = $8, lifecycle_seq = $5
    WHERE bot_id = $1 AND run_id = {_LATEST} AND ended_at IS NULL"""

_ABANDON = """
    UPDATE bot_runs SET ended_at = now(), exit = 'unknown', detail = 'the daemon ended without recording how'
    WHERE ended_at IS NULL AND started_at < $1"""

_RECENT = """
    SELECT r.bot_id, b.name, r.incarnation, r.pid, extract(epoch FROM r.started_at)::float8,
           extract(epoch FROM r.ready_at)::float8, extract(epoch FROM r.ended_at)::float8, r.failure, r.exit, r.detail
    FROM bot_runs r JOIN bots b ON b.bot_id = r.bot_id
    WHERE $1::bigint IS NULL OR r.bot_id = $1
    ORDER BY r.started_at DESC, r.run_id DESC LIMIT $2"""


async def open_run(
    connection: AsyncConnection, bot_id: int, incarnation: int, *, at: float, seq: int, pid: int | None
) -> None:
    """A process was asked for."""
    await connection.exec_driver_sql(_OPEN, (bot_id, incarnation, pid, _time(at), seq))


async def note_progress(
    connection: AsyncConnection, bot_id: int, incarnation: int, *, seq: int, pid: int | None, ready_at: float | None
) -> None:
    """The incarnation has a pid, or is ready."""
    ready = _time(ready_at) if ready_at is not None else None
    await connection.exec_driver_sql(_PROGRESS, (bot_id, incarnation, pid, ready, seq))


async def close_run(
    connection: AsyncConnection,
    bot_id: int,
    incarnation: int,
    *,
    at: float,
    seq: int,
    pid: int | None,
    failure: str | None,
    exit: str | None,
    detail: str | None,
) -> None:
    """The incarnation has ended. One that is closed already stays as it is."""
    await connection.exec_driver_sql(_CLOSE, (bot_id, incarnation, pid, _time(at), seq, failure, exit, detail))


async def abandon_runs(connection: AsyncConnection, before: float) -> int:
    """Close runs of an earlier daemon, begun before this one; returns how many."""
    return int((await connection.exec_driver_sql(_ABANDON, (_time(before),))).rowcount)


async def recent_runs(connection: AsyncConnection, bot_id: int | None, limit: int) -> list[StoredRun]:
    """The latest incarnations of one bot, or of all; newest first."""
    result = await connection.exec_driver_sql(_RECENT, (bot_id, limit))
    rows: Sequence[Any] = result.all()
    return [StoredRun(*row) for row in rows]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
