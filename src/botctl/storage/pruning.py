"""Forgets what is done: relayed events, worked-off inbox rows with all of theirs, ended jobs. For `control` only.

The rules of what may go, and what of it still counts, are in the database (migrations 0013, 0014); here only bots and
pages are counted off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Page:
    """What one call has done: rows that are gone, and where the next one begins; None at the end."""

    pruned: int
    next: int | None


async def bots_with_rows(connection: AsyncConnection) -> list[int]:
    """Every bot there ever was, and 0 for the fleet."""
    result = await connection.exec_driver_sql("SELECT bot_id FROM bots ORDER BY bot_id")
    rows: Sequence[Any] = result.scalars().all()
    return [0, *(int(bot_id) for bot_id in rows)]


async def prune_outbox(connection: AsyncConnection, bot_id: int, keep: float, after: int, at_once: int) -> Page:
    """Events of a bot that were relayed more than `keep` seconds ago, among the next `at_once` after `after`."""
    return await _page(connection, "prune_outbox", bot_id, keep, after, at_once)


async def prune_inbox(connection: AsyncConnection, bot_id: int, keep: float, after: int, at_once: int) -> Page:
    """Rows of a bot that were done more than `keep` seconds ago, with what they led to; see `prune_outbox`."""
    return await _page(connection, "prune_inbox", bot_id, keep, after, at_once)


async def prune_outside(connection: AsyncConnection, bot_id: int, keep: float, after: int, at_once: int) -> Page:
    """Up to `at_once` sends that were planned more than `keep` seconds ago outside of any row of the inbox."""
    return await _page(connection, "prune_outside", bot_id, keep, after, at_once)


async def prune_jobs(connection: AsyncConnection, bot_id: int, keep: float, after: int, at_once: int) -> Page:
    """Up to `at_once` jobs that were done or called off, set and due more than `keep` seconds ago."""
    return await _page(connection, "prune_jobs", bot_id, keep, after, at_once)


async def _page(connection: AsyncConnection, function: str, *arguments: float) -> Page:
    result = await connection.exec_driver_sql(
        f"SELECT pruned, last FROM botctl_internal.{function}($1, $2, $3, $4)", arguments
    )
    row: Any = result.one()
    return Page(int(row[0]), None if row[1] is None else int(row[1]))
