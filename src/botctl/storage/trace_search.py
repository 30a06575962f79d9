"""Where a trace is found without an index on its id, which would cost every message. For `control`.

Numbers of rows rise with time, over all bots: the newest are searched first, in stretches that grow, and the search
ends behind what it has found. Who follows a message from its cause looks for the rest among what came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.traced import TracedRow
from botctl.storage.tracing import in_bots, read_rows

FIRST = 50_000
"""Numbers of rows in the first stretch; each further one is twice as long."""

NEAR = 50_000
"""Numbers of rows after a cause among which reactions of other bots are looked for: hours of a middling fleet."""

MOST = 200


@dataclass(frozen=True, slots=True)
class Searched:
    """The rows of a trace. `whole`: all inboxes were searched to their ends."""

    rows: list[TracedRow]
    whole: bool


async def search(connection: AsyncConnection, bot_ids: Sequence[int], trace_id: str, first: int = FIRST) -> Searched:
    """The inbox rows of one trace, in those of many bots; of one bot, in all of its inbox."""
    if len(bot_ids) == 1:
        return Searched(await _between(connection, bot_ids, trace_id, 0, None), whole=True)
    rows: list[TracedRow] = []
    high, size = await _newest(connection, bot_ids), first
    while high > 0 and len(rows) < MOST:
        low = max(0, high - size)
        found = await _between(connection, bot_ids, trace_id, low, high)
        if rows and not found:
            return Searched(rows, whole=False)
        rows += found
        high, size = low, size * 2
    return Searched(rows, whole=high == 0)


async def after(connection: AsyncConnection, bot_ids: Sequence[int], trace_id: str, inbox_id: int) -> list[TracedRow]:
    """The rows of a trace among those that came next after a row."""
    return await _between(connection, bot_ids, trace_id, inbox_id, inbox_id + NEAR)


async def _newest(connection: AsyncConnection, bot_ids: Sequence[int]) -> int:
    result = await connection.exec_driver_sql(
        "SELECT coalesce(max(newest.inbox_id), 0) FROM unnest($1::bigint[]) AS bot (id), LATERAL"
        " (SELECT inbox_id FROM inbox WHERE bot_id = bot.id ORDER BY inbox_id DESC LIMIT 1) newest",
        (list(bot_ids),),
    )
    return int(result.scalar_one())


async def _between(
    connection: AsyncConnection, bot_ids: Sequence[int], trace_id: str, low: int, high: int | None
) -> list[TracedRow]:
    stretch = f"inbox_id > {int(low)}" + (f" AND inbox_id <= {int(high)}" if high is not None else "")
    where = f"{in_bots(bot_ids)} AND {stretch} AND trace_id = $1 LIMIT {MOST}"
    return await read_rows(connection, where, (trace_id,))
