"""The send journal's rows: what was to be sent to Telegram for a cause, and what became of it.

States: `planned` (surely not sent), `sending` (the call was begun), `sent`, `failed` (refused, or never made),
`skipped` (not sent again though nobody knows whether it had arrived). `uncertain` counts calls of a row whose outcome
was hidden: each may have had an effect. Every statement asks for the state it changes, so that it can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.direct import later
from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class SendRow:
    """One send. `result` is Telegram's own answer. `fault`: why what is sealed in the row can't be opened."""

    cause: str
    n: int
    mode: str
    method: str
    chat_id: int | None
    payload: dict[str, Any]
    state: str
    result: Any = None
    error: str | None = None
    trace_id: str = ""
    fault: str = ""
    uncertain: int = 0


class Sends:
    """The send journal of one bot. Payloads, results and errors go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        columns = (
            "cause, n, mode, method, chat_id, payload::text, state, result::text, error, coalesce(trace_id, ''), "
            "uncertain"
        )
        self._plan = f"""
            INSERT INTO sends (bot_id, cause, n, mode, method, chat_id, payload, state, attempts, planned_at, trace_id)
            SELECT {bot}, $1, n, $2, method, chat_id, payload::jsonb, state,
                   CASE WHEN state = 'sending' THEN 1 ELSE 0 END, now(), $3
            FROM unnest($4::int[], $5::text[], $6::bigint[], $7::text[], $8::text[])
                 AS row (n, method, chat_id, payload, state)
            ON CONFLICT (bot_id, cause, n) DO NOTHING"""
        self._begin = f"""
            UPDATE sends SET state = 'sending', attempts = attempts + 1, waits_until = NULL
            WHERE bot_id = {bot} AND cause = $1 AND n = $2 AND state = 'planned'"""
        self._hidden = f"""
            UPDATE sends SET state = CASE WHEN $3::bool THEN 'planned' ELSE 'skipped' END, uncertain = uncertain + 1,
                             error = $4
            WHERE bot_id = {bot} AND cause = $1 AND n = $2 AND state = 'sending'"""
        # One statement for two rows: there is no moment at which neither of them is known to be under way.
        self._sent = f"""
            UPDATE sends SET
                state = CASE WHEN n = $2 THEN 'sent' ELSE 'sending' END,
                result = CASE WHEN n = $2 THEN $3::text::jsonb ELSE result END,
                sent_at = CASE WHEN n = $2 THEN now() ELSE sent_at END,
                waits_until = NULL,
                attempts = attempts + CASE WHEN n = $2 THEN 0 ELSE 1 END
            WHERE bot_id = {bot} AND cause = $1
              AND (n = $2 OR ($4::bool AND n = $2 + 1 AND mode = 'deferred' AND state = 'planned'))"""
        self._failed = f"""
            UPDATE sends SET state = 'failed', error = $3
            WHERE bot_id = {bot} AND cause = $1 AND n = $2 AND state IN ('planned', 'sending')"""
        self._failed_of_chat = f"""
            UPDATE sends SET state = 'failed', error = $2
            WHERE bot_id = {bot} AND mode = 'deferred' AND state = 'planned' AND chat_id = $1"""
        self._unbegin = f"""
            UPDATE sends SET state = 'planned', waits_until = now() + make_interval(secs => $3::float8)
            WHERE bot_id = {bot} AND cause = $1 AND n = $2 AND state = 'sending'"""
        self._of_cause = f"SELECT {columns} FROM sends WHERE bot_id = {bot} AND cause = $1 ORDER BY n"
        self._unfinished = f"""
            SELECT {columns} FROM sends
            WHERE bot_id = {bot} AND mode = 'deferred' AND state IN ('planned', 'sending')
            ORDER BY planned_at, cause, n"""
        self._abandon_of_cause = f"""
            UPDATE sends SET state = CASE state WHEN 'sending' THEN 'skipped' ELSE 'failed' END,
                             uncertain = uncertain + $3, error = $2
            WHERE bot_id = {bot} AND cause = $1 AND mode = 'inline' AND state = $4"""
        # Dead letters may be tried again one day: what surely wasn't sent, or may be sent twice, is planned for then.
        self._leave = f"""
            UPDATE sends SET state = CASE WHEN $2::bool AND lower(method) <> ALL ($3::text[])
                                          THEN 'planned' ELSE 'skipped' END,
                             uncertain = uncertain + 1, error = $1
            WHERE bot_id = {bot} AND mode = 'inline' AND state = 'sending'"""
        self._leave_of_cause = f"{self._leave} AND cause = $4"
        self._leave_of_dead = f"""{self._leave}
              AND EXISTS (SELECT FROM inbox WHERE inbox.bot_id = {bot} AND inbox.cause = sends.cause
                                              AND inbox.state = 'dead')"""
        # The state stands in the text: only so is the index of open sends of use.
        self._abandon_planned, self._abandon_begun = (
            f"""
            UPDATE sends SET state = '{then}', uncertain = uncertain + {counts}, error = $1
            WHERE bot_id = {bot} AND mode = 'inline' AND state = '{state}'
              AND NOT EXISTS (SELECT FROM inbox WHERE inbox.bot_id = {bot} AND inbox.cause = sends.cause
                                                  AND inbox.state IN ('new', 'dead', 'dropped'))"""
            for state, then, counts in (("planned", "failed", 0), ("sending", "skipped", 1))
        )

    async def plan(self, connection: AsyncConnection, rows: Sequence[SendRow]) -> None:
        """Store the sends of one cause, all of one mode; rows that are there already are left alone."""
        if not rows:
            return
        first = rows[0]
        await later(
            connection,
            self._plan,
            (
                first.cause,
                first.mode,
                first.trace_id,
                [row.n for row in rows],
                [row.method for row in rows],
                [row.chat_id for row in rows],
                [self._json("payload", row.payload) for row in rows],
                [row.state for row in rows],
            ),
        )

    async def begin(self, connection: AsyncConnection, cause: str, n: int) -> None:
        """The call is about to be made."""
        await later(connection, self._begin, (cause, n))

    async def hidden(self, connection: AsyncConnection, cause: str, n: int, error: str, *, again: bool) -> None:
        """The call was made, and nobody knows what came of it; `again`: it is planned anew, else it is given up."""
        await later(connection, self._hidden, (cause, n, again, self._error(error)))

    async def unbegin(self, connection: AsyncConnection, cause: str, n: int, *, wait: float | None = None) -> None:
        """The call was surely not made after all; `wait`: for so many seconds Telegram wants none."""
        await later(connection, self._unbegin, (cause, n, wait))

    async def sent(self, connection: AsyncConnection, cause: str, n: int, result: Any, *, begin_next: bool) -> None:
        """Telegram has answered; with `begin_next` the following deferred send of the cause is begun as well."""
        await later(connection, self._sent, (cause, n, self._json("result", result), begin_next))

    async def failed(self, connection: AsyncConnection, cause: str, n: int, error: str) -> None:
        """Telegram has refused, for good."""
        await later(connection, self._failed, (cause, n, self._error(error)))

    async def failed_of_chat(self, connection: AsyncConnection, chat_id: int, error: str) -> int:
        """Nothing that is planned to be sent to this chat can be, but for calls of handlers; returns how many."""
        result = await connection.exec_driver_sql(self._failed_of_chat, (chat_id, self._error(error)))
        return int(result.rowcount)

    async def of_cause(self, connection: AsyncConnection, cause: str) -> list[SendRow]:
        """All sends of a cause, in their order. Raises VaultError when one can't be opened: none may be made twice."""
        rows = [self._row(values) for values in await connection.exec_driver_sql(self._of_cause, (cause,))]
        for row in rows:
            if row.fault:
                raise VaultError(row.fault)
        return rows

    async def unfinished(self, connection: AsyncConnection) -> list[SendRow]:
        """Deferred sends that an earlier incarnation left, the oldest first."""
        return [self._row(values) for values in await connection.exec_driver_sql(self._unfinished)]

    async def abandon_of_cause(self, connection: AsyncConnection, cause: str, reason: str) -> int:
        """Give up what inline sends of a cause are not finished; returns how many of them had been begun."""
        error = self._error(reason)
        await connection.exec_driver_sql(self._abandon_of_cause, (cause, error, 0, "planned"))
        result = await connection.exec_driver_sql(self._abandon_of_cause, (cause, error, 1, "sending"))
        return int(result.rowcount)

    async def leave(
        self, connection: AsyncConnection, cause: str | None, reason: str, *, again: bool, never: Sequence[str]
    ) -> int:
        """Note that begun inline sends have no outcome: of a cause that is given up, or of all dead letters (None).

        `again`: when the dead letter is tried again they are made again, but for methods in `never` (lower case).
        Returns how many there were.
        """
        values: tuple[Any, ...] = (self._error(reason), again, list(never))
        if cause is None:
            result = await connection.exec_driver_sql(self._leave_of_dead, values)
        else:
            result = await connection.exec_driver_sql(self._leave_of_cause, (*values, cause))
        return int(result.rowcount)

    async def abandon(self, connection: AsyncConnection, reason: str) -> int:
        """Give up unfinished inline sends that no replay will repeat; returns how many of them had been begun."""
        error = self._error(reason)
        await connection.exec_driver_sql(self._abandon_planned, (error,))
        result = await connection.exec_driver_sql(self._abandon_begun, (error,))
        return int(result.rowcount)

    def _json(self, column: str, value: Any) -> str:
        return self._sealing.json("sends", column, msgspec.json.encode(value).decode())

    def _error(self, error: str) -> str | None:
        """Telegram's refusal may quote what it refuses."""
        return self._sealing.text("sends", "error", error)

    def _row(self, values: Any) -> SendRow:
        cause, n, mode, method, chat_id, payload, state, result, error, trace_id, uncertain = values
        fault = ""
        try:
            payload = msgspec.json.decode(self._sealing.read_json("sends", "payload", payload))
            result = None if result is None else msgspec.json.decode(self._sealing.read_json("sends", "result", result))
            error = self._sealing.read_text("sends", "error", error)
        except VaultError as refusal:
            payload, result, error, fault = {}, None, None, refusal.message
        return SendRow(
            cause=cause,
            n=n,
            mode=mode,
            method=method,
            chat_id=chat_id,
            payload=payload,
            state=state,
            result=result,
            error=error,
            trace_id=trace_id,
            fault=fault,
            uncertain=uncertain,
        )
