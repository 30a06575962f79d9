"""The incarnations of bots: when each began, became ready and ended, and how. Written by `control` only.

Every write may be repeated: `control` stores a lifecycle record again when it can't know that it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands read what stands here without a database
    from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_RUNS = 1000
KEPT_DAYS = 90
"""A run is forgotten when it is older than this and not among the bot's latest `KEPT_RUNS`."""

MOST_RUNS = 10_000
"""Of a bot, whatever their age."""

UNKNOWN_EXIT = "unknown"
"""`exit` of a run that nobody has seen end."""


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


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended, as far as the database knows."""

    bot_id: int
    run_id: int
    incarnation: int
    started_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a run ended. `silent_for` and `duration` in seconds."""

    failure: str | None
    exit: str | None
    detail: str | None = None
    from_state: str | None = None
    cause: str | None = None
    action: str | None = None
    log_tail: tuple[str, ...] = ()
    stacks: str | None = None
    memory_mb: float | None = None
    silent_for: float | None = None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class StoredDeath:
    """An ended run. Times in seconds since the epoch, spans in seconds; None where nobody knows."""

    bot_id: int
    name: str
    incarnation: int
    started_at: float
    ended_at: float
    duration: float | None
    failure: str | None
    exit: str | None
    cause: str | None
    action: str | None
    memory_mb: float | None
    silent_for: float | None
    log_tail: Sequence[str]
    stacks: str | None


_OPEN = """
    INSERT INTO bot_runs (bot_id, incarnation, pid, started_at, lifecycle_seq)
    SELECT $1, $2, $3, $4, $5
    WHERE NOT EXISTS (SELECT FROM bot_runs WHERE bot_id = $1 AND incarnation = $2 AND started_at = $4)"""

# Rows of events and jobs are no sign: a bot that doesn't poll may have those all the same.
_LAST_TAKEN = """
    SELECT bot_id, extract(epoch FROM greatest(
        created_at,
        (SELECT max(received_at) FROM (
            SELECT received_at, update_id FROM inbox WHERE inbox.bot_id = bots.bot_id ORDER BY inbox_id DESC LIMIT 500
        ) AS newest WHERE update_id IS NOT NULL),
        (SELECT max(ended_at) FROM (
            SELECT ended_at FROM bot_runs WHERE bot_runs.bot_id = bots.bot_id AND ready_at IS NOT NULL
            ORDER BY run_id DESC LIMIT 5
        ) AS ended)))::float8
    FROM bots WHERE bot_id = ANY ($1)"""

_LATEST = "(SELECT max(run_id) FROM bot_runs WHERE bot_id = $1 AND incarnation = $2)"

_PROGRESS = f"""
    UPDATE bot_runs SET pid = coalesce(pid, $3), ready_at = coalesce(ready_at, $4), lifecycle_seq = $5
    WHERE bot_id = $1 AND run_id = {_LATEST} AND lifecycle_seq < $5 AND ended_at IS NULL"""

_ENDING = """
    failure = $6, exit = $7, detail = $8, from_state = $9, cause = $10, action = $11, log_tail = $12::text[],
    stacks = $13, memory_mb = $14, silent_for = $15, duration = $16"""

_CLOSE = f"""
    UPDATE bot_runs SET pid = coalesce(pid, $3), ended_at = $4, lifecycle_seq = $5, {_ENDING}
    WHERE bot_id = $1 AND run_id = {_LATEST} AND ended_at IS NULL"""

_CLOSE_LATE = f"""
    UPDATE bot_runs SET pid = coalesce(pid, $3), ended_at = $4, lifecycle_seq = $5, {_ENDING}
    WHERE bot_id = $1 AND run_id = $2 AND ended_at IS NULL"""

_ABANDON = """
    UPDATE bot_runs SET ended_at = now(), exit = $2, detail = $3, cause = $3
    WHERE ended_at IS NULL AND started_at < $1"""

_ABANDONED = "the daemon ended without recording how; this was found when it was started again"

_STILL_OPEN = """
    SELECT bot_id, run_id, incarnation, extract(epoch FROM started_at)::float8
    FROM bot_runs WHERE ended_at IS NULL AND started_at < $1 ORDER BY bot_id, run_id"""

_RECENT = """
    SELECT r.bot_id, b.name, r.incarnation, r.pid, extract(epoch FROM r.started_at)::float8,
           extract(epoch FROM r.ready_at)::float8, extract(epoch FROM r.ended_at)::float8, r.failure, r.exit, r.detail
    FROM bot_runs r JOIN bots b ON b.bot_id = r.bot_id
    WHERE $1::bigint IS NULL OR r.bot_id = $1
    ORDER BY r.started_at DESC, r.run_id DESC LIMIT $2"""

_DEATHS = f"""
    SELECT r.bot_id, coalesce(b.name, ''), r.incarnation, extract(epoch FROM r.started_at)::float8,
           extract(epoch FROM r.ended_at)::float8,
           CASE WHEN r.exit = '{UNKNOWN_EXIT}' THEN NULL
                ELSE coalesce(r.duration, extract(epoch FROM r.ended_at - r.started_at)::float8) END,
           r.failure, r.exit, coalesce(r.cause, split_part(r.detail, chr(10), 1)), r.action, r.memory_mb,
           r.silent_for, r.log_tail, r.stacks
    FROM bot_runs r LEFT JOIN bots b ON b.bot_id = r.bot_id
    WHERE r.bot_id = $1 AND r.ended_at IS NOT NULL
      AND ($3 OR r.failure IS NOT NULL OR r.exit = '{UNKNOWN_EXIT}')
    ORDER BY r.ended_at DESC, r.run_id DESC LIMIT $2"""


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
    ending: Ending,
) -> None:
    """The incarnation has ended. One that is closed already stays as it is."""
    await connection.exec_driver_sql(_CLOSE, (bot_id, incarnation, pid, _time(at), seq, *_values(ending)))


async def open_runs(connection: AsyncConnection, before: float) -> list[OpenRun]:
    """Runs begun before this time that have not ended, as far as the database knows."""
    rows: Sequence[Any] = (await connection.exec_driver_sql(_STILL_OPEN, (_time(before),))).all()
    return [OpenRun(*row) for row in rows]


async def close_late(
    connection: AsyncConnection, run: OpenRun, *, at: float, seq: int, pid: int | None, ending: Ending
) -> None:
    """A run of an earlier daemon has ended, as another record tells."""
    await connection.exec_driver_sql(_CLOSE_LATE, (run.bot_id, run.run_id, pid, _time(at), seq, *_values(ending)))


async def abandon_runs(connection: AsyncConnection, before: float) -> int:
    """Close runs of an earlier daemon, begun before this one, of whose end nobody knows; returns how many."""
    given = (_time(before), UNKNOWN_EXIT, _ABANDONED)
    return int((await connection.exec_driver_sql(_ABANDON, given)).rowcount)


async def recent_runs(connection: AsyncConnection, bot_id: int | None, limit: int) -> list[StoredRun]:
    """The latest incarnations of one bot, or of all; newest first."""
    result = await connection.exec_driver_sql(_RECENT, (bot_id, limit))
    rows: Sequence[Any] = result.all()
    return [StoredRun(*row) for row in rows]


async def deaths(connection: AsyncConnection, bot_id: int, limit: int, *, planned: bool = False) -> list[StoredDeath]:
    """The latest ended runs of a bot, newest first; those that were asked for only with `planned`."""
    rows: Sequence[Any] = (await connection.exec_driver_sql(_DEATHS, (bot_id, limit, planned))).all()
    return [StoredDeath(*row) for row in rows]


async def failures_since(connection: AsyncConnection, bot_id: int, since: float) -> dict[str, int]:
    """How often a bot has failed since then, by failure class."""
    result = await connection.exec_driver_sql(
        "SELECT failure, count(*) FROM bot_runs"
        " WHERE bot_id = $1 AND ended_at >= $2 AND failure IS NOT NULL GROUP BY failure",
        (bot_id, _time(since)),
    )
    rows: Sequence[Any] = result.all()
    return {row[0]: row[1] for row in rows}


async def first_run_at(connection: AsyncConnection, bot_id: int) -> float | None:
    """When the oldest run that is remembered of a bot began."""
    result = await connection.exec_driver_sql(
        "SELECT extract(epoch FROM started_at)::float8 FROM bot_runs WHERE bot_id = $1 ORDER BY run_id LIMIT 1",
        (bot_id,),
    )
    began: float | None = result.scalar_one_or_none()
    return began


async def last_taken(connection: AsyncConnection, bot_ids: Sequence[int]) -> dict[int, float]:
    """When bots surely took updates last: stored one, or ended a run that had polled; else when they were registered.

    A run that goes on says so itself, in its heartbeats. Bots that are not registered are left out.
    """
    rows: Sequence[Any] = (await connection.exec_driver_sql(_LAST_TAKEN, (list(bot_ids),))).all()
    return {row[0]: row[1] for row in rows}


async def prune_runs(
    connection: AsyncConnection, *, keep: int = KEPT_RUNS, days: int = KEPT_DAYS, most: int = MOST_RUNS
) -> int:
    """Forget runs older than `days` that are not among the latest `keep` of their bot, and all beyond its latest
    `most`; returns how many."""
    call = "SELECT botctl_internal.prune_runs($1, $2, most => $3)"
    result = await connection.exec_driver_sql(call, (keep, days, most))
    return int(result.scalar_one())


def _values(ending: Ending) -> tuple[Any, ...]:
    return (
        ending.failure,
        ending.exit,
        ending.detail,
        ending.from_state,
        ending.cause,
        ending.action,
        list(ending.log_tail),
        ending.stacks,
        ending.memory_mb,
        ending.silent_for,
        ending.duration,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
