"""Statements of bots read few rows, however large a table has grown since they were planned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage.conversations import Conversations
from botctl.storage.engine import bot_engine, connect
from botctl.storage.inbox import Inbox

BOT = 4101
LONG = 1000


@pytest.fixture
async def engine(database: Any) -> AsyncIterator[AsyncEngine]:
    login = await database.add_bot(BOT)
    made = bot_engine(login.target, BOT, lambda: (login.password,), pool_size=2)
    yield made
    await made.dispose()


async def _read_by(connection: AsyncConnection, arguments: str) -> int:
    """Rows that the lowest node of the plan of `asked` has looked at, kept or not."""
    result = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked({arguments})")
    plan = result.scalar_one()
    node = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    while "Plans" in node:
        (node,) = node["Plans"]
    assert node["Node Type"].startswith("Index"), node
    return int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0))


async def test_the_end_of_a_long_conversation_is_read_without_the_rest(engine: AsyncEngine, database: Any) -> None:
    """Also where reading pages in the order of an index is dear."""
    store = Conversations(BOT)
    async with engine.begin() as connection:
        conversation, _ = await store.open(connection, 1, 0)
    admin = await connect(database.admin)
    await admin.execute(
        "INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, text, cause)"
        " SELECT $1, $2, 1, 'in', 'user', repeat('hello ', 50), n::text FROM generate_series(1, $3::int) n",
        BOT,
        conversation,
        LONG,
    )
    await admin.execute("ANALYZE messages")
    await admin.close()
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SET random_page_cost = 400")
        await connection.exec_driver_sql(f"PREPARE asked AS {store._history}")
        assert await _read_by(connection, f"{conversation}, '', 20") <= 25


async def _looked_at(connection: AsyncConnection, arguments: str) -> int:
    """Rows of tables that the whole plan of `asked` has looked at, kept or not, each of them by an index."""
    result = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked({arguments})")
    plan = result.scalar_one()
    nodes, found = [(json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            assert node["Node Type"].startswith("Index"), node
            found += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return int(found)


async def test_plans_made_while_the_inbox_was_empty_serve_when_it_is_full(engine: AsyncEngine, database: Any) -> None:
    """An empty table that was vacuumed looks as if it would always be empty."""
    admin = await connect(database.admin)
    await admin.execute("VACUUM ANALYZE inbox")
    inbox = Inbox(BOT)
    everything, one_lane = "'{}', '{}', '{}', 20", "'chat:2', 20, '{}'"
    async with engine.connect() as connection, engine.connect() as other:
        await connection.exec_driver_sql(f"PREPARE asked AS {inbox._waiting}")
        await connection.exec_driver_sql(f"EXECUTE asked({everything})")
        await other.exec_driver_sql(f"PREPARE asked AS {inbox._lane}")
        await other.exec_driver_sql(f"EXECUTE asked({one_lane})")
        for state in ("done", "new"):
            await admin.execute(
                "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state)"
                " SELECT $1, $3 || n, 'message', 'chat:1', '{}', $3 FROM generate_series(1, $2::int) n",
                BOT,
                LONG,
                state,
            )
            assert await _looked_at(connection, everything) <= 50
            assert await _looked_at(other, one_lane) <= 25
    await admin.close()


async def test_storing_asks_little_of_a_full_inbox(engine: AsyncEngine, database: Any) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"PREPARE asked AS {Inbox(BOT)._add}")
        given = ", ".join(("'{a,b,c}'", "'{1,2,3}'", "'{m,m,m}'", "'{chat:1,chat:1,chat:2}'", "'{1,1,1}'", "'{t,t,t}'"))
        assert await _looked_at(connection, f"{given}, '{{NULL,NULL,NULL}}'") <= 25
