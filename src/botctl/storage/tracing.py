"""What is kept of one cause, for whoever follows a message: in few statements that prune by bot. For `control`.

A cause is `update:<id>`, `event:<id>[@<replay>]`, `job:<name>:<due>` or `op:<id>`. Texts are given as they are stored,
sealed or clear; whoever shows them opens them. Times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.traced import TracedAttempt, TracedCompletion, TracedEvent, TracedRequest, TracedRow, TracedSend

_ROW = (
    "bot_id, inbox_id, cause, kind, lane, state, attempts, extract(epoch FROM received_at)::float8,"
    " extract(epoch FROM begun_at)::float8, extract(epoch FROM next_attempt_at)::float8,"
    " extract(epoch FROM done_at)::float8, last_error, trace_id, payload::text"
)
_EVENT = (
    "bot_id, event_id, type, version, extract(epoch FROM occurred_at)::float8,"
    " extract(epoch FROM relayed_at)::float8, correlation_id, causation_id, data::text"
)


async def bot_names(connection: AsyncConnection) -> dict[int, str]:
    """Every bot that was ever registered, by bot_id."""
    result: Any = await connection.exec_driver_sql("SELECT bot_id, name FROM bots")
    return dict(result.all())


async def clock(connection: AsyncConnection) -> float:
    """The server's, by which all times here are."""
    result = await connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8")
    return float(result.scalar_one())


async def rows_of_causes(
    connection: AsyncConnection, bot_ids: Iterable[int], causes: Sequence[str], limit: int = 1000
) -> list[TracedRow]:
    """The inbox rows of these causes, of these bots."""
    return await read_rows(
        connection, f"{in_bots(bot_ids)} AND cause = ANY($1::text[]) LIMIT {int(limit)}", (list(causes),)
    )


async def rows_of_replays(connection: AsyncConnection, bot_ids: Iterable[int], event_id: str) -> list[TracedRow]:
    """The inbox rows of an event that was given once more to these bots: their causes have a mark behind its id.

    Found by a range of the key, which is whole where texts are compared byte by byte, as on the embedded server.
    """
    return await read_rows(
        connection,
        f"{in_bots(bot_ids)} AND cause > $1 AND cause < $2 AND starts_with(cause, $1) LIMIT 100",
        (f"event:{event_id}@", f"event:{event_id}@\uffff"),
    )


async def rows_of_chat(connection: AsyncConnection, bot_id: int, chat_id: int, limit: int) -> list[TracedRow]:
    """The latest inbox rows of a chat, the newest first: of those that wait and of all others, each by its index."""
    lane = (f"chat:{int(chat_id)}",)
    found: list[TracedRow] = []
    for which in ("state = 'new'", "state <> 'new'"):
        where = f"bot_id = {int(bot_id)} AND lane = $1 AND {which} ORDER BY inbox_id DESC LIMIT {int(limit)}"
        found += await read_rows(connection, where, lane)
    return sorted(found, key=lambda row: row.inbox_id, reverse=True)[:limit]


async def waiting_before(connection: AsyncConnection, row: TracedRow) -> tuple[str, int] | None:
    """What of its lane a row waits for: the first row before it, and how many there are; None for nothing."""
    result: Any = await connection.exec_driver_sql(
        f"SELECT cause, (SELECT count(*) FROM inbox WHERE bot_id = {row.bot_id} AND state = 'new' AND lane = $1"
        f" AND inbox_id < $2) FROM inbox WHERE bot_id = {row.bot_id} AND state = 'new' AND lane = $1 AND inbox_id < $2"
        " ORDER BY inbox_id LIMIT 1",
        (row.lane, row.inbox_id),
    )
    found: Any = result.first()
    return None if found is None else (found[0], int(found[1]))


async def attempts_of(connection: AsyncConnection, bot_id: int, inbox_ids: Sequence[int]) -> list[TracedAttempt]:
    """What is kept of attempts at these rows, in order."""
    result: Any = await connection.exec_driver_sql(
        "SELECT inbox_id, attempt, outcome, extract(epoch FROM begun_at)::float8,"
        " extract(epoch FROM ended_at)::float8, error, traceback FROM attempts"
        f" WHERE bot_id = {int(bot_id)} AND inbox_id = ANY($1::bigint[]) ORDER BY inbox_id, attempt_id LIMIT 1000",
        (list(inbox_ids),),
    )
    return [TracedAttempt(*values) for values in result]


async def completions_of(connection: AsyncConnection, bot_id: int, causes: Sequence[str]) -> list[TracedCompletion]:
    """Recorded completions of these causes."""
    result: Any = await connection.exec_driver_sql(
        "SELECT cause, step, model, input_tokens, output_tokens, cached_tokens, retries, coalesce(finish_reason, ''),"
        " duration_ms, extract(epoch FROM created_at)::float8, response::text FROM completions"
        f" WHERE bot_id = {int(bot_id)} AND cause = ANY($1::text[]) ORDER BY cause, step LIMIT 1000",
        (list(causes),),
    )
    return [TracedCompletion(*values) for values in result]


async def sends_of(connection: AsyncConnection, bot_id: int, causes: Sequence[str]) -> list[TracedSend]:
    """The send journal of these causes."""
    result: Any = await connection.exec_driver_sql(
        "SELECT cause, n, mode, method, chat_id, state, attempts, uncertain, extract(epoch FROM planned_at)::float8,"
        " extract(epoch FROM sent_at)::float8, extract(epoch FROM waits_until)::float8, error, trace_id,"
        " payload::text, result::text FROM sends"
        f" WHERE bot_id = {int(bot_id)} AND cause = ANY($1::text[]) ORDER BY cause, n LIMIT 1000",
        (list(causes),),
    )
    return [TracedSend(*values) for values in result]


async def requests_of(connection: AsyncConnection, bot_id: int, causes: Sequence[str]) -> list[TracedRequest]:
    """What a bot has asked others for these causes; kept for a week."""
    result: Any = await connection.exec_driver_sql(
        "SELECT cause, request_id, target, type, state, extract(epoch FROM asked_at)::float8,"
        " extract(epoch FROM deadline)::float8, extract(epoch FROM answered_at)::float8, coalesce(error, '')"
        f" FROM requests WHERE bot_id = {int(bot_id)} AND cause = ANY($1::text[]) ORDER BY cause, asked_at LIMIT 1000",
        (list(causes),),
    )
    return [TracedRequest(*values) for values in result]


async def events_caused(
    connection: AsyncConnection, bot_id: int, causes: Sequence[str], limit: int = 1000
) -> list[TracedEvent]:
    """Events that these causes have led this bot to, as long as its outbox keeps them."""
    return await _events(
        connection,
        f"bot_id = {int(bot_id)} AND causation_id = ANY($1::text[]) ORDER BY seq LIMIT {int(limit)}",
        (list(causes),),
    )


async def events_of_ids(
    connection: AsyncConnection, bot_ids: Iterable[int], event_ids: Sequence[str]
) -> list[TracedEvent]:
    """Events by id, of whichever of these bots."""
    return await _events(connection, f"{in_bots(bot_ids)} AND event_id = ANY($1::text[]) LIMIT 100", (list(event_ids),))


async def read_rows(connection: AsyncConnection, where: str, values: tuple[Any, ...]) -> list[TracedRow]:
    """The inbox rows of a condition, which comes from this folder and from nobody else."""
    result: Any = await connection.exec_driver_sql(f"SELECT {_ROW} FROM inbox WHERE {where}", values)
    return [TracedRow(*found) for found in result]


async def _events(connection: AsyncConnection, where: str, values: tuple[Any, ...]) -> list[TracedEvent]:
    result: Any = await connection.exec_driver_sql(f"SELECT {_EVENT} FROM outbox WHERE {where}", values)
    return [TracedEvent(*found) for found in result]


def in_bots(bot_ids: Iterable[int]) -> str:
    """A condition on bots. Literals, so that only these bots' partitions are looked at."""
    return f"bot_id IN ({', '.join(str(int(bot_id)) for bot_id in bot_ids) or 'NULL'})"
