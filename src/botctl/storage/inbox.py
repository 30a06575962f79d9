"""The inbox: everything that reached a bot and waits to be handled, in order of arrival.

A row is stored before it is acknowledged to whoever sent it, and `(bot_id, cause)` is its key, so that what comes twice
is handled once. Never decides when a row is tried again or given up; it stores what was decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.cleaning import clean_text
from botctl.storage.direct import Ask, found, later
from botctl.storage.interruptions import MARK
from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class NewRow:
    """What is put into the inbox; `payload` is JSON text without NUL characters."""

    cause: str
    update_id: int | None
    kind: str
    lane: str
    payload: str
    trace_id: str
    dead: str | None = None
    """Why it can't ever be handled; such a row is stored as a dead letter at once."""
    sender: int | None = None
    """Telegram's id of who has sent it; it is not stored beside the payload."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A row that waits. `attempts` are those counted so far; `next_attempt_at` is by the reader's clock, or 0.

    `replayed` is False only when the row surely has not been attempted before. `fault` says why the payload can't be
    opened, if it is sealed and can't; the payload is empty then.
    """

    inbox_id: int
    cause: str
    kind: str
    lane: str
    payload: str
    trace_id: str
    attempts: int = 0
    next_attempt_at: float = 0.0
    replayed: bool = True
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of storing a row. `previous`: the inbox_id of the last one that waited in its lane then, if any."""

    inbox_id: int
    previous: int | None


LONGEST_WAIT = 60.0
"""Seconds. No attempt is put off for longer; a row that says so was written before the server's clock was set back."""

MOST_COUNTED = 100_000
"""Rows that wait are counted up to here, so that a count every few seconds stays cheap."""


def insert_of(bot_id: int) -> str:
    """The statement that stores rows of one bot: arrays of cause, update_id, kind, lane, payload, trace_id, dead."""
    bot = f"{int(bot_id)}"
    return f"""
        WITH fresh AS (
        INSERT INTO inbox (bot_id, cause, update_id, kind, lane, payload, trace_id, attempts, received_at,
                           state, last_error, done_at)
        SELECT {bot}, cause, update_id, kind, lane, payload::jsonb, trace_id, 0, now(),
               CASE WHEN dead IS NULL THEN 'new' ELSE 'dead' END, dead, CASE WHEN dead IS NOT NULL THEN now() END
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             WITH ORDINALITY AS row (cause, update_id, kind, lane, payload, trace_id, dead, position)
        ORDER BY position
        ON CONFLICT (bot_id, cause) DO NOTHING
        RETURNING inbox_id, cause, lane)
        SELECT inbox_id, cause, (
            SELECT max(older.inbox_id) FROM inbox older
            WHERE older.bot_id = {bot} AND older.lane = fresh.lane AND older.state = 'new') FROM fresh"""


def columns_of(rows: Sequence[NewRow], sealing: Sealing) -> tuple[list[Any], ...]:
    """What `insert_of` is executed with."""
    return (
        [row.cause for row in rows],
        [row.update_id for row in rows],
        [row.kind for row in rows],
        [row.lane for row in rows],
        [sealing.json("inbox", "payload", row.payload) for row in rows],
        [row.trace_id for row in rows],
        [sealing.text("inbox", "last_error", row.dead) for row in rows],
    )


def harmless(row: NewRow, reason: str) -> NewRow:
    """A dead letter in the place of a row whose payload itself the database refuses: as a text that it can't refuse."""
    ascii_payload = row.payload.encode("ascii", "backslashreplace").decode().replace("\\", "\\\\")
    text = "".join(character for character in ascii_payload if character.isprintable()).replace('"', '\\"')
    cause, kind, lane, trace_id = (clean_text(part) for part in (row.cause, row.kind, row.lane, row.trace_id))
    return NewRow(cause, row.update_id, kind, lane, f'{{"raw": "{text}"}}', trace_id, clean_text(reason))


class Inbox:
    """The inbox of one bot. Payloads and errors go through `sealing`; `clock` is monotonic, in seconds.

    Times between attempts are spans on both sides: the server's clock tells how much of one is left, and the reader's
    when that is over. Neither needs to be right, or to agree with the other.
    """

    def __init__(
        self, bot_id: int, sealing: Sealing = UNSEALED, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sealing = sealing
        self._clock = clock
        bot = f"{int(bot_id)}"
        columns = (
            "inbox_id, cause, kind, lane, payload::text, coalesce(trace_id, ''), attempts, "
            "coalesce(extract(epoch FROM next_attempt_at - now())::float8, 0)"
        )
        self._add = insert_of(bot_id)
        # Hashed on both sides: it may have to pass over very many rows of a few lanes.
        self._waiting = f"""
            SELECT {columns} FROM inbox
            WHERE bot_id = {bot} AND state = 'new' AND inbox_id = ANY (ARRAY(
                SELECT one.inbox_id FROM inbox one
                LEFT JOIN unnest($2::text[], $3::bigint[]) AS full_lane (lane, last) ON full_lane.lane = one.lane
                WHERE one.bot_id = {bot} AND one.state = 'new'
                  AND (full_lane.lane IS NULL OR one.inbox_id < full_lane.last)
                  AND one.inbox_id NOT IN (SELECT unnest($1::bigint[]))
                ORDER BY one.inbox_id LIMIT $4))
            ORDER BY inbox_id"""
        self._lane = f"""
            SELECT {columns} FROM inbox
            WHERE bot_id = {bot} AND state = 'new' AND lane = $1 AND inbox_id <> ALL ($3::bigint[])
            ORDER BY inbox_id LIMIT $2"""
        self._known = f"SELECT cause, kind, payload::text FROM inbox WHERE bot_id = {bot} AND cause = ANY ($1::text[])"
        self._newest = f"SELECT max(inbox_id) FROM inbox WHERE bot_id = {bot}"
        self._first_of_lane = f"""
            SELECT {columns} FROM inbox
            WHERE bot_id = {bot} AND state = 'new' AND inbox_id > $1 AND inbox_id <= $2 AND NOT EXISTS (
                SELECT FROM inbox older
                WHERE older.bot_id = {bot} AND older.lane = inbox.lane AND older.state = 'new'
                  AND older.inbox_id < inbox.inbox_id)
            ORDER BY inbox_id LIMIT $3"""
        # next_attempt_at is empty exactly while a begun attempt is being worked on, and before the first one. This
        # commit has to be durable: what the attempt goes on to commit builds on it.
        self._begin = f"""
            UPDATE inbox SET attempts = $2, next_attempt_at = NULL,
                             begun_at = CASE WHEN $3::bool THEN begun_at ELSE now() END
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'
            RETURNING inbox_id"""
        self._step_back = f"""
            UPDATE inbox SET attempts = $2, next_attempt_at = now()
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'"""
        # An attempt that doesn't end well leaves a row of its own behind. What is committed twice leaves one: begun_at
        # is empty by then.
        kept = f"""
            WITH kept AS (
                INSERT INTO attempts (bot_id, inbox_id, attempt, outcome, begun_at, error, traceback)
                SELECT {bot}, inbox_id, %s, begun_at, %s FROM inbox
                WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new' AND %s)"""
        self._interrupt = f"""{kept % ("$3::int, 'interrupted'", "$4::text, NULL", "begun_at IS NOT NULL")}
            UPDATE inbox SET attempts = $2, next_attempt_at = now(), begun_at = NULL
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'"""
        counted = "$5::int, CASE WHEN $6::bool THEN 'failed' ELSE 'waited' END"
        self._postpone = f"""{kept % (counted, "$7::text, $8::text", "begun_at IS NOT NULL")}
            UPDATE inbox SET last_error = $2, next_attempt_at = now() + make_interval(secs => $3::float8),
                             attempts = $4, begun_at = NULL
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'"""
        self._done = f"""
            UPDATE inbox SET state = 'done', done_at = now(), next_attempt_at = NULL,
                             last_error = CASE WHEN NOT starts_with(last_error, '{MARK}') THEN last_error END
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'"""
        self._dead = f"""{kept % ("$3::int, 'given up'", "$4::text, $5::text", "true")}
            UPDATE inbox SET state = 'dead', done_at = now(), last_error = $2, next_attempt_at = NULL, begun_at = NULL
            WHERE bot_id = {bot} AND inbox_id = $1 AND state = 'new'"""
        self._depth = f"""
            SELECT count(*) FROM
                (SELECT FROM inbox WHERE bot_id = {bot} AND state = 'new' LIMIT {MOST_COUNTED}) AS waiting"""

    async def add(self, connection: AsyncConnection, rows: Sequence[NewRow]) -> dict[str, int]:
        """Store rows in this order; returns cause -> inbox_id of those that were not there yet."""
        return {cause: stored.inbox_id for cause, stored in (await self.store(connection, rows)).items()}

    async def store(self, connection: AsyncConnection, rows: Sequence[NewRow]) -> dict[str, Stored]:
        """Store rows in this order; what came of those that were not there yet, by cause.

        Who stores several rows of one lane in several transactions has each committed before the next one begins:
        numbers are given before the commit, and the order of what is stored at the same time is nobody's.
        """
        result = await connection.exec_driver_sql(self._add, columns_of(rows, self._sealing))
        added: Any = result.all()
        return {cause: Stored(inbox_id, previous) for inbox_id, cause, previous in added}

    async def waiting(
        self,
        connection: AsyncConnection,
        limit: int,
        *,
        known: Sequence[int] = (),
        full: Mapping[str, int] | None = None,
    ) -> list[InboxRow]:
        """The first rows that wait and are none of the `known`, whenever they came: found by what they are.

        Of a lane in `full`, only those before the inbox_id given for it.
        """
        full = full or {}
        result = await connection.exec_driver_sql(self._waiting, (list(known), list(full), list(full.values()), limit))
        return [self._row(values) for values in result]

    async def waiting_in_lane(
        self, connection: AsyncConnection, lane: str, limit: int, without: Sequence[int] = ()
    ) -> list[InboxRow]:
        """The first rows of one lane that wait, but for those with these inbox_ids."""
        result = await connection.exec_driver_sql(self._lane, (lane, limit, list(without)))
        return [self._row(values) for values in result]

    async def known(self, connection: AsyncConnection, causes: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Kind and payload of rows that are there, whatever has become of them; "" for what can't be opened."""
        found: dict[str, tuple[str, str]] = {}
        rows: Any = (await connection.exec_driver_sql(self._known, (list(causes),))).all()
        for cause, kind, payload in rows:
            found[cause] = kind, ""
            with suppress(VaultError):
                found[cause] = kind, self._sealing.read_json("inbox", "payload", payload)
        return found

    async def newest(self, connection: AsyncConnection) -> int:
        """The highest inbox_id there is; 0 for none."""
        result = await connection.exec_driver_sql(self._newest)
        return int(result.scalar_one() or 0)

    async def first_of_lanes(self, connection: AsyncConnection, after: int, up_to: int, limit: int) -> list[InboxRow]:
        """Rows that wait between two inbox_ids, the second one included, with nothing of their lane before them."""
        result = await connection.exec_driver_sql(self._first_of_lane, (after, up_to, limit))
        return [self._row(values) for values in result]

    async def begin_attempt(
        self, connection: AsyncConnection, inbox_id: int, attempt: int, *, again: bool = False
    ) -> bool:
        """Count an attempt, numbered from 1, before it is made. False when the row waits no more.

        `again`: it has begun before, and was stepped back from while it waited for something.
        """
        return await found(connection, self.beginning(inbox_id, attempt, again=again))

    def beginning(self, inbox_id: int, attempt: int, *, again: bool = False) -> Ask:
        """What `begin_attempt` asks."""
        return Ask(self._begin, (inbox_id, attempt, again), inbox_id)

    async def step_back(self, connection: AsyncConnection, inbox_id: int, attempts: int) -> None:
        """The row is not worked on for now; `attempts` count, without the one that is stepped back from."""
        await connection.exec_driver_sql(self._step_back, (inbox_id, attempts))

    async def interrupt(self, connection: AsyncConnection, inbox_id: int, attempt: int, reason: str) -> None:
        """This attempt ends unfinished because the process is asked to end; it doesn't count."""
        await connection.exec_driver_sql(self._interrupt, (inbox_id, attempt - 1, attempt, reason))

    async def postpone(
        self,
        connection: AsyncConnection,
        inbox_id: int,
        error: str,
        delay: float,
        attempts: int,
        *,
        attempt: int | None = None,
        traceback: str | None = None,
    ) -> None:
        """This attempt failed; the next one is due in `delay` seconds; `attempts` count so far."""
        attempt = attempts if attempt is None else attempt
        counts = attempt == attempts
        await connection.exec_driver_sql(
            self._postpone,
            (inbox_id, self._error(error), delay, attempts, attempt, counts, *self._kept(error, traceback)),
        )

    async def done(self, connection: AsyncConnection, inbox_id: int) -> None:
        """The row has been handled."""
        await later(connection, self._done, (inbox_id,))

    async def dead(
        self, connection: AsyncConnection, inbox_id: int, error: str, *, attempt: int = 0, traceback: str | None = None
    ) -> None:
        """The row is given up at this attempt: a dead letter, kept with its last error."""
        await connection.exec_driver_sql(
            self._dead, (inbox_id, self._error(error), attempt, *self._kept(error, traceback))
        )

    async def depth(self, connection: AsyncConnection) -> int:
        """How many rows wait; of more than MOST_COUNTED as many."""
        result = await connection.exec_driver_sql(self._depth)
        return int(result.scalar_one())

    def _error(self, error: str | None) -> str | None:
        """An exception's words may be a message's."""
        return self._sealing.text("inbox", "last_error", error)

    def _kept(self, error: str, traceback: str | None) -> tuple[str | None, str | None]:
        """The same as an attempt keeps them."""
        return self._sealing.text("attempts", "error", error), self._sealing.text("attempts", "traceback", traceback)

    def _row(self, values: Any) -> InboxRow:
        inbox_id, cause, kind, lane, payload, trace_id, attempts, wait = values
        next_attempt_at = self._clock() + min(wait, LONGEST_WAIT) if wait > 0 else 0.0
        fault = ""
        try:
            payload = self._sealing.read_json("inbox", "payload", payload)
        except VaultError as error:
            payload, fault = "", error.message
        return InboxRow(inbox_id, cause, kind, lane, payload, trace_id, attempts, next_attempt_at, fault=fault)
