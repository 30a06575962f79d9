"""Jobs of one bot: what it is to do later, once or again and again. Never decides when; it stores what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class StoredJob:
    """`due_at` in seconds since the epoch, `every` in seconds; `daily_at` is `HH:MM:SS` in `timezone`.

    `fault`: why it can't be done: its data can't be opened, say. `set_at`: when it was set, or was due last, by the
    bot's clock; 0 when nobody knows.
    """

    name: str
    due_at: float
    every: float | None = None
    daily_at: str | None = None
    timezone: str = "UTC"
    chat_id: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    trace_id: str = ""
    fault: str = ""
    set_at: float = 0.0


class Jobs:
    """The jobs of one bot. Data go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        columns = (
            "name, extract(epoch FROM due_at)::float8, every, daily_at, timezone, chat_id, data::text, "
            "coalesce(trace_id, ''), extract(epoch FROM set_at)::float8"
        )
        self._set = f"""
            INSERT INTO jobs (bot_id, name, state, due_at, every, daily_at, timezone, chat_id, data, trace_id, set_at)
            VALUES ({bot}, $1, 'waiting', $2, $3, $4, $5, $6, $7::text::jsonb, $8, coalesce($9, now()))
            ON CONFLICT (bot_id, name) DO UPDATE SET
                state = 'waiting', due_at = excluded.due_at, every = excluded.every, daily_at = excluded.daily_at,
                timezone = excluded.timezone, chat_id = excluded.chat_id, data = excluded.data,
                trace_id = excluded.trace_id, set_at = excluded.set_at"""
        self._cancel = f"""
            UPDATE jobs SET state = 'cancelled' WHERE bot_id = {bot} AND name = $1 AND state = 'waiting'"""
        # Raw SQL of a handler may have put a time there that is none, such as -infinity; it keeps nobody else waiting.
        self._waiting = f"""
            SELECT {columns} FROM jobs
            WHERE bot_id = {bot} AND state = 'waiting' AND due_at >= to_timestamp(0) AND due_at <= $1
            ORDER BY due_at LIMIT $2"""
        self._first = f"""
            SELECT extract(epoch FROM due_at)::float8 FROM jobs
            WHERE bot_id = {bot} AND state = 'waiting' AND due_at >= to_timestamp(0) ORDER BY due_at LIMIT 1"""
        self._set_after = f"""
            SELECT {columns} FROM jobs
            WHERE bot_id = {bot} AND state = 'waiting' AND due_at > $1 AND set_at > $1 AND due_at < 'infinity'
              AND set_at < 'infinity' AND (every IS NOT NULL OR daily_at IS NOT NULL)"""
        self._fired = f"""
            UPDATE jobs SET state = CASE WHEN $3::timestamptz IS NULL THEN 'done' ELSE 'waiting' END,
                            due_at = coalesce($3::timestamptz, due_at), set_at = $4
            WHERE bot_id = {bot} AND name = $1 AND abs(extract(epoch FROM due_at - $2)) < 0.001 AND state = 'waiting'
            RETURNING name"""

    async def put(self, connection: AsyncConnection, job: StoredJob) -> None:
        """Store a job, in the place of one of the same name."""
        await connection.exec_driver_sql(
            self._set,
            (
                job.name,
                _moment(job.due_at),
                job.every,
                job.daily_at,
                job.timezone,
                job.chat_id,
                self._sealing.json("jobs", "data", msgspec.json.encode(job.data).decode()),
                job.trace_id,
                _moment(job.set_at) if job.set_at else None,
            ),
        )

    async def cancel(self, connection: AsyncConnection, name: str) -> bool:
        """Forget a job; False when none of that name waits."""
        return bool((await connection.exec_driver_sql(self._cancel, (name,))).rowcount)

    async def due(self, connection: AsyncConnection, now: float, limit: int) -> list[StoredJob]:
        """Jobs that are due, the oldest first."""
        result = await connection.exec_driver_sql(self._waiting, (_moment(now), limit))
        return [self._job(values) for values in result]

    async def waiting(self, connection: AsyncConnection, limit: int = 1000) -> list[StoredJob]:
        """Jobs that wait, the next first."""
        return await self.due(connection, _FAR, limit)

    async def first(self, connection: AsyncConnection) -> float | None:
        """When the next one is due."""
        row = (await connection.exec_driver_sql(self._first)).first()
        return None if row is None else float(row[0])

    async def set_after(self, connection: AsyncConnection, moment: float) -> list[StoredJob]:
        """Repeated jobs that were set, or were due last, after this moment."""
        return [self._job(values) for values in await connection.exec_driver_sql(self._set_after, (_moment(moment),))]

    async def fired(
        self, connection: AsyncConnection, fired: Sequence[tuple[StoredJob, float | None]], now: float
    ) -> set[str]:
        """These are in the inbox; each with its next due time, None for the last. Names of those that were due."""
        names = set()
        for job, following in fired:
            following_at = None if following is None else _moment(following)
            values = (job.name, _moment(job.due_at), following_at, _moment(now))
            if (await connection.exec_driver_sql(self._fired, values)).first() is not None:
                names.add(job.name)
        return names

    def _job(self, values: Any) -> StoredJob:
        name, due_at, every, daily_at, timezone, chat_id, stored, trace_id, set_at = values
        data, fault = {}, ""
        try:
            data = msgspec.json.decode(self._sealing.read_json("jobs", "data", stored))
        except VaultError as error:
            fault = f"can't be opened: {error.message}"
        return StoredJob(name, float(due_at), every, daily_at, timezone, chat_id, data, trace_id, fault, float(set_at))


_FAR = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def _moment(seconds: float) -> datetime:
    """Whole milliseconds, so that what is read again is the same moment."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
