"""One bot's login, with raw SQL, against the rows and rights of another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from botctl.storage.engine import connect

Connection = asyncpg.Connection
ALICE, BOB = 1001, 1002


async def _write(connection: Connection[Any], bot_id: int) -> None:
    conversation = await connection.fetchval(
        f"INSERT INTO conversations (bot_id, chat_id) VALUES ({bot_id}, 7) RETURNING conversation_id"
    )
    await connection.execute(
        "INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, text, cause)"
        f" VALUES ({bot_id}, $1, 7, 'in', 'user', $2, 'update:1')",
        conversation,
        f"a secret of {bot_id}",
    )
    await connection.execute(f"INSERT INTO users (bot_id, user_id) VALUES ({bot_id}, 7)")
    await connection.execute(
        "INSERT INTO inbox (bot_id, cause, kind, lane, payload)"
        f" VALUES ({bot_id}, 'update:1', 'message', 'chat:7', '{{}}')"
    )
    await connection.execute(
        "INSERT INTO sends (bot_id, cause, n, mode, method, payload, state)"
        f" VALUES ({bot_id}, 'update:1', 0, 'inline', 'sendMessage', '{{}}', 'sending')"
    )
    await connection.execute(
        f"INSERT INTO completions (bot_id, cause, step, response) VALUES ({bot_id}, 'update:1', 0, '{{}}')"
    )
    await connection.execute(f"INSERT INTO outbox (bot_id, event_id, type) VALUES ({bot_id}, 'e1', 'message.received')")


@pytest.fixture(scope="module")
def logins(database: Any) -> dict[int, Any]:
    return {}


@pytest.fixture
async def both(database: Any, logins: dict[int, Any]) -> AsyncIterator[tuple[Connection[Any], Connection[Any]]]:
    """Connections of Alice and Bob, who both have rows in every table a bot writes."""
    first = not logins
    if first:
        for bot_id in (ALICE, BOB):
            logins[bot_id] = await database.add_bot(bot_id)
    alice, bob = [await connect(logins[bot_id]) for bot_id in (ALICE, BOB)]
    if first:
        control = await connect(database.control)
        for bot_id in (ALICE, BOB):
            await control.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", bot_id, f"bot{bot_id}")
            await control.execute("INSERT INTO bot_runs (bot_id, incarnation) VALUES ($1, 1)", bot_id)
            await control.execute("INSERT INTO bot_credentials VALUES ($1, 1, 'hash')", bot_id)
        await control.close()
        await _write(alice, ALICE)
        await _write(bob, BOB)
    yield alice, bob
    await alice.close()
    await bob.close()


READABLE = (
    *("bots", "users", "conversations", "messages", "inbox", "sends"),
    *("completions", "outbox", "bot_runs", "audit_log"),
)


@pytest.mark.parametrize("table", READABLE)
async def test_a_bot_sees_its_own_rows_only(both: tuple[Connection[Any], Connection[Any]], table: str) -> None:
    for connection, bot_id in zip(both, (ALICE, BOB), strict=True):
        seen = await connection.fetch(f"SELECT DISTINCT bot_id FROM {table}")
        assert [row["bot_id"] for row in seen] == [bot_id]


async def test_no_session_variable_and_no_role_changes_what_a_bot_sees(
    both: tuple[Connection[Any], Connection[Any]],
) -> None:
    alice, _ = both
    await alice.execute(f"SET app.bot_id = '{BOB}'")
    await alice.execute("SET row_security = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await alice.fetch("SELECT * FROM messages")
    await alice.execute("SET row_security = on")
    await alice.execute("SET ROLE bots")
    assert await alice.fetchval("SELECT count(*) FROM messages WHERE bot_id <> botctl_bot_id()") == 0
    assert await alice.fetchval("SELECT botctl_bot_id()") == ALICE
    await alice.execute("RESET ROLE")
    for role in ("botctl_owner", "botctl_control", "postgres", f"bot_{BOB}", "pg_read_all_data"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await alice.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await alice.execute(f"SET SESSION AUTHORIZATION {role}")


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO users (bot_id, user_id) VALUES ({BOB}, 8)",
        f"INSERT INTO users (bot_id, user_id) VALUES ({BOB}, 7) ON CONFLICT DO NOTHING",
        f"INSERT INTO users (bot_id, user_id) VALUES ({BOB}, 7)"
        " ON CONFLICT (bot_id, user_id) DO UPDATE SET first_name = 'x'",
        f"INSERT INTO outbox (bot_id, event_id, type) VALUES ({BOB}, 'e2', 'x')",
        "INSERT INTO outbox (bot_id, event_id, type) VALUES (0, 'e2', 'x')",
    ],
)
async def test_a_bot_cannot_write_for_another(both: tuple[Connection[Any], Connection[Any]], statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await both[0].execute(statement)


async def test_changing_the_rows_of_another_changes_nothing(both: tuple[Connection[Any], Connection[Any]]) -> None:
    alice, bob = both
    assert await alice.execute(f"UPDATE inbox SET state = 'dead' WHERE bot_id = {BOB}") == "UPDATE 0"
    assert await alice.execute("UPDATE users SET first_name = 'mine'") == "UPDATE 1"
    assert await bob.fetchval("SELECT state FROM inbox") == "new"
    assert await bob.fetchval("SELECT first_name FROM users") == ""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM bot_credentials",
        "SELECT * FROM botctl_internal.messages_00",
        "DELETE FROM messages",
        "TRUNCATE messages",
        "UPDATE messages SET text = 'x'",
        "UPDATE messages SET bot_id = 1",
        "UPDATE bots SET config = '{}'",
        "INSERT INTO bots (bot_id, name) VALUES (1001, 'x')",
        "INSERT INTO bot_runs (bot_id, incarnation) VALUES (1001, 2)",
        "INSERT INTO audit_log (bot_id, action, entity) VALUES (1001, 'x', 'y')",
        "UPDATE audit_log SET action = 'nothing'",
        "DELETE FROM audit_log",
        "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE messages IN SHARE MODE",
        "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE messages NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON messages",
        "CREATE POLICY mine ON messages TO bots USING (true)",
        "CREATE TRIGGER mine AFTER INSERT ON messages EXECUTE FUNCTION tsvector_update_trigger()",
        "CREATE TABLE public.mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER ROLE bot_1002 PASSWORD 'x'",
        "ALTER ROLE bot_1001 CREATEROLE",
        "ALTER ROLE bot_1001 CONNECTION LIMIT 100",
        "GRANT bots TO bot_1002 WITH ADMIN OPTION",
        "SELECT botctl_admin.ensure_bot(1001, 100)",
        "SELECT botctl_admin.set_bot_password(1002, 'x')",
        "SELECT botctl_internal.record_audit(1001, 'x', 'y', NULL, NULL)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY messages TO PROGRAM 'cat'",
        "COPY messages TO '/tmp/x'",
        "SELECT rolpassword FROM pg_authid",
    ],
)
async def test_a_bot_may_not(both: tuple[Connection[Any], Connection[Any]], statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with both[0].transaction():
            await both[0].execute(statement)


async def test_a_key_of_another_bot_is_no_conflict(both: tuple[Connection[Any], Connection[Any]]) -> None:
    """Were keys global, a refused insert would tell of the other's row."""
    alice, bob = both
    key = await bob.fetchval("SELECT message_id FROM messages")
    await alice.execute(
        "INSERT INTO messages (bot_id, message_id, conversation_id, chat_id, direction, role, cause)"
        f" OVERRIDING SYSTEM VALUE SELECT {ALICE}, $1, conversation_id, 7, 'in', 'user', 'update:1' || random()"
        " FROM conversations",
        key,
    )


async def test_a_conversation_of_another_bot_cannot_be_referred_to(
    both: tuple[Connection[Any], Connection[Any]],
) -> None:
    alice, bob = both
    foreign = await bob.fetchval("SELECT conversation_id FROM conversations")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await alice.execute(
            "INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, cause)"
            f" VALUES ({ALICE}, $1, 7, 'in', 'user', 'update:2')",
            foreign,
        )


async def test_a_leaky_function_is_not_shown_rows_of_others(both: tuple[Connection[Any], Connection[Any]]) -> None:
    """Division by zero on any foreign row would raise; row security runs first."""
    assert await both[0].fetch(f"SELECT * FROM messages WHERE 1 / (bot_id - {BOB}) > 100") == []


@pytest.mark.parametrize("bot_id", [ALICE, BOB])
async def test_a_literal_bot_id_touches_one_partition(
    both: tuple[Connection[Any], Connection[Any]], bot_id: int
) -> None:
    plan = await both[0].fetch(
        f"EXPLAIN SELECT * FROM messages WHERE bot_id = {bot_id} AND conversation_id = 1"
        " ORDER BY message_id DESC LIMIT 9"
    )
    text = "\n".join(row[0] for row in plan)
    assert "Append" not in text
    assert text.count("messages_") >= 1
    async with both[0].transaction():
        await both[0].fetch(f"SELECT * FROM messages WHERE bot_id = {bot_id} AND conversation_id = 1")
        locked = await both[0].fetchval(
            "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
            " WHERE pid = pg_backend_pid() AND relname ~ '^messages_[0-9]+$'"
        )
    assert locked == 1


async def test_many_bots_have_their_own_limits(database: Any, logins: dict[int, Any], both: Any) -> None:
    login = await database.add_bot(1003, 2)
    held = [await connect(login) for _ in range(2)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await connect(login)
    for connection in held:
        await connection.close()
