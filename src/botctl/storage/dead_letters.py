"""Dead letters of the inboxes: rows that were given up, to be looked at, tried again or dropped. For `control`.

Nothing is deleted here: what is dropped keeps its row, in the state `dropped`, and may be tried again as well. What an
operator did stands in the table `attempts`, and what the row has sent in the journal: a retry doesn't send it twice.
The call that it died of, the last one and refused, is made again; from earlier refusals its handler has gone on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.traced import TracedRow
from botctl.storage.tracing import read_rows

KINDS = ("update", "event", "job", "op")
"""What a cause begins with."""


async def listed(
    connection: AsyncConnection,
    *,
    bot_ids: Iterable[int] | None = None,
    since: float | None = None,
    kind: str | None = None,
    dropped: bool = False,
    limit: int = 100,
) -> list[TracedRow]:
    """Dead letters, or those that were dropped, the newest first."""
    where = f"state = '{'dropped' if dropped else 'dead'}'"
    if bot_ids is not None:
        where += f" AND bot_id IN ({', '.join(str(int(bot_id)) for bot_id in bot_ids) or 'NULL'})"
    return await read_rows(
        connection,
        f"{where} AND ($1::float8 IS NULL OR done_at >= to_timestamp($1))"
        " AND ($2::text IS NULL OR starts_with(cause, $2))"
        f" ORDER BY done_at DESC, inbox_id DESC LIMIT {int(limit)}",
        (since, None if kind is None else f"{kind}:"),
    )


async def found(connection: AsyncConnection, bot_ids: Iterable[int], inbox_id: int) -> list[TracedRow]:
    """The dead letters, or dropped ones, of this number: one at most of each bot."""
    bots = ", ".join(str(int(bot_id)) for bot_id in bot_ids) or "NULL"
    return await read_rows(
        connection, f"bot_id IN ({bots}) AND inbox_id = $1 AND state IN ('dead', 'dropped')", (inbox_id,)
    )


async def retried(connection: AsyncConnection, bot_ids: Iterable[int], inbox_id: int) -> str | None:
    """The state of the row of this number, if it was a dead letter and is no more, for it was tried again."""
    bots = ", ".join(str(int(bot_id)) for bot_id in bot_ids) or "NULL"
    result = await connection.exec_driver_sql(
        f"SELECT state FROM inbox WHERE bot_id IN ({bots}) AND inbox_id = $1 AND state IN ('new', 'done') AND EXISTS"
        " (SELECT FROM attempts WHERE attempts.bot_id = inbox.bot_id AND attempts.inbox_id = inbox.inbox_id"
        " AND outcome = 'retried') LIMIT 1",
        (inbox_id,),
    )
    state: str | None = result.scalar_one_or_none()
    return state


async def all_of(connection: AsyncConnection, bot_id: int) -> list[int]:
    """The numbers of all dead letters of a bot."""
    result: Any = await connection.exec_driver_sql(
        f"SELECT inbox_id FROM inbox WHERE bot_id = {int(bot_id)} AND state = 'dead' ORDER BY inbox_id"
    )
    return [int(number) for number in result.scalars()]


async def retry(connection: AsyncConnection, bot_id: int, inbox_ids: Sequence[int], by: str) -> list[int]:
    """Have these handled again, at their places of arrival; which of them were dead letters, or dropped ones."""
    changed = await _change(
        connection,
        bot_id,
        inbox_ids,
        "retried",
        by,
        "state IN ('dead', 'dropped')",
        "state = 'new', attempts = 0, next_attempt_at = NULL, done_at = NULL, last_error = NULL, begun_at = NULL",
    )
    bot = int(bot_id)
    await connection.exec_driver_sql(
        f"UPDATE sends SET state = 'planned' WHERE bot_id = {bot} AND mode = 'inline' AND state = 'failed' AND cause IN"
        f" (SELECT cause FROM inbox WHERE bot_id = {bot} AND inbox_id = ANY($1::bigint[])) AND NOT EXISTS (SELECT FROM"
        f" sends AS later WHERE later.bot_id = {bot} AND later.cause = sends.cause AND later.n > sends.n)",
        (changed,),
    )
    return changed


async def drop(connection: AsyncConnection, bot_id: int, inbox_ids: Sequence[int], by: str) -> list[int]:
    """Set these aside for good; which of them were dead letters. They are kept from now on as long as what is done."""
    changes = "state = 'dropped', done_at = now()"
    return await _change(connection, bot_id, inbox_ids, "dropped", by, "state = 'dead'", changes)


async def _change(
    connection: AsyncConnection,
    bot_id: int,
    inbox_ids: Sequence[int],
    outcome: str,
    by: str,
    which: str,
    changes: str,
) -> list[int]:
    """Bot and states are literals: one partition, and its index of dead letters."""
    where = f"bot_id = {int(bot_id)} AND inbox_id = ANY($1::bigint[]) AND {which}"
    result: Any = await connection.exec_driver_sql(
        "WITH kept AS (INSERT INTO attempts (bot_id, inbox_id, attempt, outcome, error)"
        f" SELECT {int(bot_id)}, inbox_id, attempts, '{outcome}', $2::text FROM inbox WHERE {where})"
        f" UPDATE inbox SET {changes} WHERE {where} RETURNING inbox_id",
        (list(inbox_ids), by),
    )
    return sorted(int(number) for number in result.scalars())
