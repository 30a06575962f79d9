"""A connection as repositories use it, straight at asyncpg, for those who do thousands of small things a second.

Beside SQLAlchemy's `exec_driver_sql` it has `later`, for statements whose result nobody asks for. They are carried out
at the end, before the commit: the same statement of several works in one round trip, and different ones of a single
work as one statement. What a work asks for sees all that the same work has put off. A transaction is begun when there
is more than one thing to do; one alone commits by itself. Never repeats anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.engine import STATEMENTS_KEPT
from botctl.storage.merging import Parameters, merged

_Prepared = dict[str, Any]

_STALE = (asyncpg.InvalidCachedStatementError, asyncpg.InvalidSQLStatementNameError)


async def later(connection: AsyncConnection, sql: str, parameters: Parameters = ()) -> None:
    """Carry out a statement by the end of the transaction; at once where nothing can be put off."""
    if isinstance(cast("object", connection), DirectConnection):
        direct = cast("Any", connection)
        direct.later(sql, parameters)
    else:
        await connection.exec_driver_sql(sql, parameters)


class Ask(NamedTuple):
    """A statement that returns `key`, as the first column of one row, if it has found its row, and else nothing.

    Different ones with the same text have different keys.
    """

    sql: str
    parameters: Parameters
    key: Any


async def found(connection: AsyncConnection, ask: Ask) -> bool:
    """Whether the statement finds its row; it may have been carried out already, with those of others."""
    if isinstance(cast("object", connection), DirectConnection):
        direct = cast("Any", connection)
        if (answer := direct.answers.pop((ask.sql, ask.key), None)) is not None:
            return bool(answer)
    return (await connection.exec_driver_sql(ask.sql, ask.parameters)).first() is not None


class Rows:
    """A result, with what repositories ask of SQLAlchemy's."""

    __slots__ = ("_rows", "_status")

    def __init__(self, rows: list[Any], status: str) -> None:
        self._rows = rows
        self._status = status

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """All rows."""
        return self._rows

    def first(self) -> Any:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """The only row. Raises LookupError when there is none, or more."""
        if len(self._rows) != 1:
            raise LookupError(f"{len(self._rows)} rows where there has to be one")
        return self._rows[0]

    def scalar_one(self) -> Any:
        """The first column of the only row. Raises LookupError."""
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        """The first column of the only row; None when there is none. Raises LookupError when there are more."""
        return self.scalar_one() if self._rows else None

    def scalars(self) -> Rows:
        """The first column of each row."""
        return Rows([row[0] for row in self._rows], self._status)

    @property
    def rowcount(self) -> int:
        """Rows that were found, or changed."""
        number = self._status.rpartition(" ")[2]
        return int(number) if number.isdigit() else -1


class Session:
    """Works that are committed together over a connection of `engine`'s pool, which has begun nothing.

    `transaction` False is for one work that is one statement. End with `commit`, or else with `rollback`.
    """

    def __init__(self, connection: AsyncConnection, *, transaction: bool) -> None:
        pooled = connection.sync_connection
        assert pooled is not None
        self._driver: asyncpg.Connection[Any] = cast("Any", pooled.connection.driver_connection)
        self._prepared: _Prepared = pooled.connection.info.setdefault("botctl_prepared", {})
        self._transaction = transaction
        self._begun = False
        self._put_off: list[tuple[str, list[Parameters]]] = []
        self._found: dict[str, set[Any]] = {}
        self.turn = 0
        """How often all that was put off has been carried out."""

    def work(self, first: Ask | None = None) -> AsyncConnection:
        """The connection as one of the works sees it; of an AsyncConnection it has `exec_driver_sql` only.

        `first` is one of those that were carried out by `ask_all`.
        """
        connection = DirectConnection(self)
        if first is not None:
            connection.answers[first.sql, first.key] = first.key in self._found.get(first.sql, ())
        return cast("AsyncConnection", connection)

    async def ask_all(self, asks: Sequence[Ask]) -> None:
        """Before all else: the first statements of all works, those of the same text in one round trip."""
        together: dict[str, list[Parameters]] = {}
        for ask in asks:
            together.setdefault(ask.sql, []).append(ask.parameters)
        for sql, parameters in together.items():
            await self._begin()
            statement = await self._prepare(sql)
            self._found[sql] = {row[0] for row in await statement.fetchmany(parameters)}

    async def ask(self, sql: str, parameters: Parameters) -> Rows:
        """Carry out a statement now."""
        await self._begin()
        statement = await self._prepare(sql)
        return Rows(await statement.fetch(*parameters), statement.get_statusmsg())

    def put_off(self, sql: str, parameters: Parameters, after: int) -> int:
        """Carry it out later, not before the statement in place `after`; its own place."""
        for place in range(after, len(self._put_off)):
            if self._put_off[place][0] == sql:
                self._put_off[place][1].append(parameters)
                return place
        self._put_off.append((sql, [parameters]))
        return len(self._put_off) - 1

    async def carry_out(self, *, last: bool = False) -> None:
        """Do all that was put off; `last`: nothing comes after it."""
        waiting, self._put_off = merged(self._put_off), []
        self.turn += 1
        if len(waiting) > 1 or not last:
            await self._begin()
        for sql, parameters in waiting:
            statement = await self._prepare(sql)
            if len(parameters) == 1:
                await statement.fetch(*parameters[0])
            else:
                await statement.executemany(parameters)

    async def commit(self) -> None:
        """Do what was put off, and commit."""
        if self._put_off:
            await self.carry_out(last=True)
        if self._begun:
            await self._driver.execute("COMMIT")
            self._begun = False

    async def rollback(self, error: BaseException) -> None:
        """It has failed. A connection in doubt is closed; the pool makes a new one."""
        if isinstance(error, _STALE):
            self._prepared.clear()
        if not _is_sound_after(error):
            self._driver.terminate()
        elif self._begun:
            try:
                await self._driver.execute("ROLLBACK")
            except BaseException as worse:
                self._driver.terminate()
                if not isinstance(worse, Exception):
                    raise

    async def _begin(self) -> None:
        if self._transaction and not self._begun:
            self._begun = True
            await self._driver.execute("BEGIN")

    async def _prepare(self, sql: str) -> Any:
        if (statement := self._prepared.get(sql)) is None:
            statement = await self._driver.prepare(sql)
            while len(self._prepared) >= STATEMENTS_KEPT:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[sql] = statement
        return statement


class DirectConnection:
    """The connection for one work."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._place = 0
        self._turn = -1
        self.answers: dict[tuple[str, Any], bool] = {}
        """What `found` is told without asking, once."""

    async def exec_driver_sql(self, sql: str, parameters: Parameters | None = None) -> Rows:
        """Carry out a statement, after all that this work has put off."""
        if self._turn == self._session.turn:
            await self._session.carry_out()
        return await self._session.ask(sql, tuple(parameters or ()))

    def later(self, sql: str, parameters: Parameters) -> None:
        """Carry out a statement by the end; see `later`."""
        if self._turn != self._session.turn:
            self._turn, self._place = self._session.turn, 0
        self._place = self._session.put_off(sql, tuple(parameters), self._place)


def _is_sound_after(error: BaseException) -> bool:
    """Whether a connection is surely of use after an error: it may be the server's last word, or a torn exchange."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        return not state.startswith(("57P", "08")) and getattr(error, "severity_en", None) not in ("FATAL", "PANIC")
    torn = isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)
    return isinstance(error, Exception) and (not torn or isinstance(error, asyncpg.DataError | ValueError))
