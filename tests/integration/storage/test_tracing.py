"""The statements that follow a message: they find everything, and look at one bot's part of the tables by an index."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage import trace_search, tracing
from botctl.storage.engine import connect

BOT, OTHER = 4401, 4402
MANY = 20_000


@pytest.fixture(scope="module")
def filled(database: Any) -> None:
    """Two bots with many updates, sends, completions and events."""
    asyncio.run(_fill(database))


async def _fill(database: Any) -> None:
    admin = await connect(database.admin)
    for bot in (BOT, OTHER):
        await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, 'bot-' || $1::bigint)", bot)
        await admin.execute(
            "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state, trace_id)"
            " SELECT $1::bigint, 'update:' || n, 'message', 'chat:' || n % 100, '{}', 'done',"
            "        left(md5($1::bigint || '|' || n), 16)"
            " FROM generate_series(1, $2::int) n",
            bot, MANY,
        )  # fmt: skip
        await admin.execute(
            "INSERT INTO sends (bot_id, cause, n, mode, method, payload, state)"
            " SELECT $1, 'update:' || n, 0, 'inline', 'sendMessage', '{}', 'sent' FROM generate_series(1, $2::int) n",
            bot, MANY,
        )  # fmt: skip
        await admin.execute(
            "INSERT INTO completions (bot_id, cause, step, response)"
            " SELECT $1, 'update:' || n, 0, '{}' FROM generate_series(1, $2::int) n",
            bot, MANY,
        )  # fmt: skip
        await admin.execute(
            "INSERT INTO outbox (bot_id, event_id, type, causation_id)"
            " SELECT $1::bigint, 'e' || $1::bigint || '-' || n, 'message.sent', 'update:' || n"
            " FROM generate_series(1, $2::int) n",
            bot, MANY,
        )  # fmt: skip
    await admin.execute("VACUUM ANALYZE inbox, sends, completions, outbox, attempts, bots")
    await admin.close()


class _Explained:
    """Takes the place of a connection: every statement's plan, and how many rows were looked at."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.scans: list[dict[str, Any]] = []

    async def exec_driver_sql(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        explained = await self._connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        plan = explained.scalar_one()
        self._walk((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
        return await self._connection.exec_driver_sql(statement, values)

    def _walk(self, node: dict[str, Any]) -> None:
        if "Relation Name" in node and node.get("Actual Loops"):
            self.scans.append(node)
        for below in node.get("Plans", ()):
            self._walk(below)

    @property
    def looked_at(self) -> int:
        return sum(int(one["Actual Rows"]) + int(one.get("Rows Removed by Filter", 0)) for one in self.scans)

    @property
    def tables(self) -> set[str]:
        return {one["Relation Name"] for one in self.scans}


async def test_what_is_asked_by_cause_looks_at_a_row_or_two(engine: AsyncEngine, filled: None) -> None:
    causes = ["update:77"]
    async with engine.connect() as connection:
        for ask in (
            lambda explained: tracing.rows_of_causes(explained, [BOT], causes),
            lambda explained: tracing.sends_of(explained, BOT, causes),
            lambda explained: tracing.completions_of(explained, BOT, causes),
            lambda explained: tracing.attempts_of(explained, BOT, [5]),
            lambda explained: tracing.events_of_ids(explained, [0, BOT, OTHER], [f"e{BOT}-77"]),
            lambda explained: tracing.rows_of_causes(explained, [BOT, OTHER], ["event:x", "event:y"]),
        ):
            explained = _Explained(connection)
            await ask(explained)  # type: ignore[arg-type]
            assert explained.looked_at <= 5, explained.scans
            assert len(explained.tables) <= 3, "partitions of other bots are left alone"
            assert all("Seq" not in one["Node Type"] for one in explained.scans if one["Actual Rows"]), explained.scans


async def test_what_has_no_index_reads_one_bots_partition(engine: AsyncEngine, filled: None) -> None:
    """An index on trace or causation would cost every message; who follows one pays instead."""
    async with engine.connect() as connection:
        explained = _Explained(connection)
        (event,) = await tracing.events_caused(explained, BOT, ["update:77"])  # type: ignore[arg-type]
        assert event.event_id == f"e{BOT}-77"
        assert len(explained.tables) == 1
        explained = _Explained(connection)
        await trace_search.search(explained, [BOT], "0" * 16)  # type: ignore[arg-type]
        assert len(explained.tables) == 1


async def test_a_trace_is_searched_for_from_the_newest_and_no_further_than_it_reaches(
    engine: AsyncEngine, filled: None
) -> None:
    def id_of(bot: int, number: int) -> str:
        return hashlib.md5(f"{bot}|{number}".encode(), usedforsecurity=False).hexdigest()[:16]

    async with engine.connect() as connection:
        explained = _Explained(connection)
        found = await trace_search.search(explained, [BOT, OTHER], id_of(OTHER, MANY - 5), 1000)  # type: ignore[arg-type]
        assert ([row.cause for row in found.rows], found.whole) == ([f"update:{MANY - 5}"], False)
        assert explained.looked_at <= 3100
        old = await trace_search.search(connection, [BOT, OTHER], id_of(BOT, 3), 1000)
        assert ([row.cause for row in old.rows], old.whole) == (["update:3"], True)
        nothing = await trace_search.search(connection, [BOT, OTHER], "0" * 16, 1000)
        assert (nothing.rows, nothing.whole) == ([], True)
        later = await trace_search.after(connection, [BOT, OTHER], id_of(OTHER, 7), old.rows[0].inbox_id)
        assert [(row.bot_id, row.cause) for row in later] == [(OTHER, "update:7")]


async def test_replays_of_an_event_are_found_by_its_key(engine: AsyncEngine, database: Any, filled: None) -> None:
    admin = await connect(database.admin)
    await admin.execute(
        "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state) SELECT $1, cause, 'event', 'x', '{}', 'done'"
        " FROM unnest(ARRAY['event:9:a@one', 'event:9:a@two', 'event:9:a', 'event:9:ab@one']) cause",
        BOT,
    )
    await admin.close()
    async with engine.connect() as connection:
        explained = _Explained(connection)
        rows = await tracing.rows_of_replays(explained, [BOT, OTHER], "9:a")  # type: ignore[arg-type]
        assert {row.cause for row in rows} == {"event:9:a@one", "event:9:a@two"}
        assert explained.looked_at <= 4


async def test_the_latest_of_a_chat_are_read_and_nothing_else(engine: AsyncEngine, database: Any, filled: None) -> None:
    """Also of a chat that has long been silent, and with what waits among what is done."""
    admin = await connect(database.admin)
    for cause, state in (("late", "new"), ("later", "dead")):
        await admin.execute(
            "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state)"
            " VALUES ($1, $2, 'message', 'chat:50', '{}', $3)",
            BOT, cause, state,
        )  # fmt: skip
    await admin.execute("UPDATE inbox SET lane = 'chat:777' WHERE bot_id = $1 AND cause = 'update:3'", BOT)
    await admin.close()
    async with engine.connect() as connection:
        explained = _Explained(connection)
        rows = await tracing.rows_of_chat(explained, BOT, 50, 5)  # type: ignore[arg-type]
        assert [row.cause for row in rows] == ["later", "late", *(f"update:{n}" for n in (19950, 19850, 19750))]
        assert explained.looked_at <= 7
        explained = _Explained(connection)
        assert len(await tracing.rows_of_chat(explained, BOT, 777, 5)) == 1  # type: ignore[arg-type]
        assert explained.looked_at == 1


async def test_who_waits_knows_for_whom(engine: AsyncEngine, database: Any) -> None:
    admin = await connect(database.admin)
    await admin.execute(
        "INSERT INTO inbox (bot_id, cause, kind, lane, payload)"
        " SELECT 4403, 'update:' || n, 'message', 'chat:' || n % 2, '{}' FROM generate_series(1, 6) n"
    )
    await admin.close()
    async with engine.connect() as connection:
        rows = await tracing.rows_of_causes(connection, [4403], ["update:1", "update:5"])
        before = {row.cause: await tracing.waiting_before(connection, row) for row in rows}
    assert before == {"update:1": None, "update:5": ("update:1", 2)}
