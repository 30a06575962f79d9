"""Where a taken-over bot attacks: two bots with rows in every table, logins, and how an attack's outcome is told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import asyncpg

from attack.cases import attack
from botctl.handover import DatabaseLogin
from botctl.storage.engine import connect

AREA = "database"
MARK = "words of the victim"
"""Stands in every row of B: what an attack returns must not contain it."""

NO_ROW = "no row"
NOTHING = "nothing happens"
REFUSED = "refused (42501)"

Connection: TypeAlias = "asyncpg.Connection[Any]"
Attack = Callable[["Ground"], Awaitable[str]]
WEAKENED: dict[str, tuple[str, ...]] = {}
"""Of a case, what an administrator would have to do for the attack to end otherwise: the proof that it can."""


@dataclass
class Ground:
    """The database and whoever is in it. `me` is the attacker's connection, with A's own credentials."""

    admin: DatabaseLogin
    control: DatabaseLogin
    alice: DatabaseLogin
    bob: DatabaseLogin
    a: ClassVar[int] = 7101
    b: ClassVar[int] = 7102
    conversation: int = 0
    """B's one."""
    opened: list[Connection] = field(default_factory=list)
    me: Connection = field(init=False)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[Ground]:
        """With a connection as A; whatever is opened meanwhile is closed."""
        self.me = await self.open(self.alice)
        try:
            yield self
        finally:
            for connection in self.opened:
                connection.terminate()
            self.opened.clear()

    async def open(self, login: DatabaseLogin, **settings: str) -> Connection:
        connection = await connect(login, settings)
        self.opened.append(connection)
        return connection

    async def outcome(self, function: Attack) -> str:
        """How the attack ends: what it says, or with which error it was refused."""
        try:
            return await function(self)
        except asyncpg.PostgresError as error:
            return f"refused ({error.sqlstate})"

    async def each(self, statements: Iterable[str]) -> str:
        """The one outcome of all statements, or those that end otherwise than the first."""
        ends: dict[str, str] = {}
        for statement in statements:
            ends[statement] = await self.outcome(lambda ground, sql=statement: run(ground, sql))
        assert ends
        kinds = sorted(set(ends.values()))
        if len(kinds) == 1:
            return kinds[0]
        return "; ".join(f"{kind}: {[sql for sql, end in ends.items() if end == kind][:3]}" for kind in kinds)

    async def names(self, query: str) -> list[str]:
        """First column of what the catalogue tells A."""
        return [str(row[0]) for row in await self.me.fetch(query)]


async def run(ground: Ground, sql: str) -> str:
    """One statement as A, in a savepoint where there is a transaction. What is read comes as text."""
    statement = sql.format(a=ground.a, b=ground.b)
    if statement.startswith("SELECT"):
        statement = f"SELECT found::text FROM ({statement}) found"
    if ground.me.is_in_transaction() or statement.startswith("LOCK"):
        async with ground.me.transaction():
            return await _told(ground, statement)
    return await _told(ground, statement)


async def _told(ground: Ground, statement: str) -> str:
    prepared = await ground.me.prepare(statement)
    rows = await prepared.fetch()
    return told(rows, prepared.get_statusmsg())


def told(rows: list[Any], status: str = "") -> str:
    """What came back: other bots' words are the worst, then any row of others, then any."""
    text = str([tuple(row) for row in rows])
    if MARK in text:
        return "words of B"
    if rows:
        return f"{len(rows)} rows"
    changed = re.search(r" (\d+)$", status)
    if not changed:
        return NOTHING
    return NO_ROW if changed[1] == "0" else f"{changed[1]} rows changed"


def statement(name: str, sql: str, must: str = REFUSED, *, weak: str | tuple[str, ...] = ()) -> None:
    """Declare an attack of one statement."""
    several(name, [sql], must, weak=weak)


def several(
    name: str,
    statements: list[str],
    must: str = REFUSED,
    *,
    weak: str | tuple[str, ...] = (),
    managed: str = "",
) -> None:
    """Declare an attack of several statements that all have to end alike."""

    async def function(ground: Ground) -> str:
        return await ground.each(statements)

    declare(name, must, weak=weak, managed=managed)(function)


def declare(
    name: str, must: str = REFUSED, *, weak: str | tuple[str, ...] = (), managed: str = ""
) -> Callable[[Attack], Attack]:
    """Declare an attack that is a function; `weak` weakens the database so that it ends otherwise.

    `managed` is how it ends where the administrator is no superuser.
    """

    def wrap(function: Attack) -> Attack:
        attack(name, must, area=AREA, managed=managed)(function)
        if weak:
            WEAKENED[name] = (weak,) if isinstance(weak, str) else weak
        return function

    return wrap


async def furnish(ground: Ground) -> None:
    """Rows of both bots in every table; B's all hold MARK."""
    admin = await connect(ground.admin)
    try:
        for bot in (ground.a, ground.b):
            words = MARK if bot == ground.b else "own words"
            await admin.execute(
                f"""
                INSERT INTO bots (bot_id, name, config) VALUES ({bot}, '{words}', '{{"instructions": "{words}"}}');
                INSERT INTO bot_runs (bot_id, incarnation, detail) VALUES ({bot}, 1, '{words}');
                INSERT INTO bot_credentials VALUES ({bot}, 1, '{words}');
                INSERT INTO bot_keys VALUES ({bot}, 1, 1, '{words}', '{words}');
                INSERT INTO bot_secrets VALUES ({bot}, '{words}', 1, '{words}');
                INSERT INTO users (bot_id, user_id, first_name, username)
                SELECT {bot}, {bot}0000 + 3 * g, '{words}', '{words} ' || g FROM generate_series(1, 2000) g;
                INSERT INTO inbox (bot_id, cause, kind, lane, payload)
                VALUES ({bot}, 'update:{bot}', 'message', '{words}', '{{"text": "{words}"}}');
                INSERT INTO attempts (bot_id, inbox_id, attempt, outcome, error, traceback)
                VALUES ({bot}, 1, 1, 'failed', '{words}', '{words}');
                INSERT INTO sends (bot_id, cause, n, mode, method, payload, state)
                VALUES ({bot}, 'update:{bot}', 0, 'inline', '{words}', '{{"text": "{words}"}}', 'sending');
                INSERT INTO completions (bot_id, cause, step, response)
                VALUES ({bot}, 'update:{bot}', 0, '{{"text": "{words}"}}');
                INSERT INTO kept_data (bot_id, kind, owner, value) VALUES ({bot}, 'user', '1', '{words}');
                INSERT INTO outbox (bot_id, event_id, type) VALUES ({bot}, 'e{bot}', '{words}');
                WITH c AS (INSERT INTO conversations (bot_id, chat_id) VALUES ({bot}, {bot}) RETURNING *)
                INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, text, cause)
                SELECT bot_id, conversation_id, chat_id, 'in', 'user', '{words}', 'update:{bot}' FROM c;
                """
            )
        of_bob = f"SELECT conversation_id FROM conversations WHERE bot_id = {ground.b}"
        ground.conversation = await admin.fetchval(of_bob)
        await admin.execute("ANALYZE")
    finally:
        await admin.close()
