"""What an earlier process was working on when it ended, and what is kept of it beside these rows of the inbox.

Stores what was judged and never judges. A row is being worked on exactly while an attempt is counted and
`next_attempt_at` is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

MARK = "suspected: "
"""How a mark in `last_error` begins; it goes when the row's attempt ends in a way of its own."""

_TEXT = re.compile(rf"{MARK}deaths ([0-9]{{1,6}}), kills ([0-9]{{1,6}}), rest ([0-9.]{{1,10}}) s(, guilty)?")


@dataclass(frozen=True, slots=True)
class Mark:
    """What is held against a row.

    `deaths`: ends of processes that an update can be the cause of, with this one being worked on; `kills`: KILLs in a
    row; `rest`: seconds for which a process is to live without it before it is tried again; `guilty`: it is given up.
    """

    deaths: int = 0
    kills: int = 0
    rest: float = 0.0
    guilty: bool = False

    def text(self) -> str:
        """As it stands in `last_error`."""
        words = f"{MARK}deaths {self.deaths}, kills {self.kills}, rest {self.rest:.1f} s"
        return f"{words}, guilty" if self.guilty else words


def read_mark(text: str) -> Mark:
    """From its text; a mark that can't be read counts as one death."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return Mark(deaths=1)
    deaths, kills, rest, guilty = found.groups()
    return Mark(int(deaths), int(kills), float(rest), guilty is not None)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A row that was being worked on: `attempts` with that one; `ran`: seconds since it began, 0 if nobody knows.

    When the process ended isn't known, so a slow restart is part of `ran`.
    """

    attempts: int
    ran: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a row. `take_back`: its interrupted attempt doesn't count. `mark` None: nothing against it."""

    inbox_id: int
    take_back: bool
    mark: Mark | None


class Interruptions:
    """Those of one bot."""

    def __init__(self, bot_id: int) -> None:
        bot = f"{int(bot_id)}"
        self._note = f"""
            WITH under_way AS MATERIALIZED (
                SELECT inbox_id, attempts + (next_attempt_at IS NOT NULL)::int AS attempt, begun_at FROM inbox
                WHERE bot_id = {bot} AND state = 'new' AND begun_at IS NOT NULL
            ), kept AS (
                INSERT INTO attempts (bot_id, inbox_id, attempt, outcome, begun_at, error)
                SELECT {bot}, inbox_id, attempt, 'interrupted', begun_at, $1::text FROM under_way)
            UPDATE inbox SET begun_at = NULL FROM under_way
            WHERE inbox.bot_id = {bot} AND inbox.inbox_id = under_way.inbox_id"""
        self._under_way = f"""
            SELECT inbox_id, attempts, coalesce(greatest(extract(epoch FROM now() - begun_at), 0)::float8, 0) FROM inbox
            WHERE bot_id = {bot} AND state = 'new' AND attempts > 0 AND next_attempt_at IS NULL"""
        self._marks = f"""
            SELECT inbox_id, last_error FROM inbox
            WHERE bot_id = {bot} AND state = 'new' AND starts_with(last_error, '{MARK}')"""
        # Nothing that an attempt's own end has said is touched by a row that has no mark, before or after.
        self._settle = f"""
            UPDATE inbox SET attempts = attempts - settled.taken, next_attempt_at = coalesce(next_attempt_at, now()),
                             last_error = CASE WHEN settled.mark IS NOT NULL THEN settled.mark
                                               WHEN NOT starts_with(last_error, '{MARK}') THEN last_error END
            FROM unnest($1::bigint[], $2::int[], $3::text[]) AS settled (inbox_id, taken, mark)
            WHERE inbox.bot_id = {bot} AND inbox.state = 'new' AND inbox.inbox_id = settled.inbox_id"""

    async def under_way(self, connection: AsyncConnection) -> dict[int, UnderWay]:
        """Rows that an earlier process was working on when it ended, by inbox_id. To be asked before `note`."""
        result: Any = await connection.exec_driver_sql(self._under_way)
        return {inbox_id: UnderWay(attempts, ran) for inbox_id, attempts, ran in result.all()}

    async def note(self, connection: AsyncConnection, reason: str) -> None:
        """Keep that the attempts an earlier process was making have not ended. Judges and counts nothing."""
        await connection.exec_driver_sql(self._note, (reason,))

    async def marks(self, connection: AsyncConnection) -> dict[int, Mark]:
        """What is held against rows that wait, by inbox_id."""
        result: Any = await connection.exec_driver_sql(self._marks)
        return {inbox_id: read_mark(text) for inbox_id, text in result.all()}

    async def settle(self, connection: AsyncConnection, rows: Iterable[Settled]) -> None:
        """None of these is being worked on any more, and each is marked as it says."""
        rows = list(rows)
        if rows:
            marks = [row.mark.text() if row.mark is not None else None for row in rows]
            taken = [int(row.take_back) for row in rows]
            await connection.exec_driver_sql(self._settle, ([row.inbox_id for row in rows], taken, marks))
