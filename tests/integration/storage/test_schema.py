"""Rules that every table keeps, read from the catalogue, so that a new table can't forget them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from botctl.storage.engine import connect

# pytest gives `database` from conftest.py; its type can't be imported from there.
Connection = asyncpg.Connection

TABLES = {
    "attempts",
    *(
        "audit_log",
        "audit_seals",
        "bot_credentials",
        "bot_keys",
        "bot_runs",
        "bot_secrets",
        "bots",
        "bus_grants",
        "chat_states",
        "completions",
        "jobs",
        "kept_data",
        "conversations",
        "forgotten",
    ),
    *("inbox", "messages", "once_keys", "outbox", "requests", "sends", "users"),
}
GROUPS = ("bots", "bots_ro", "botctl_control")


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.admin)
    yield connection
    await connection.close()


async def test_every_table_is_partitioned_owned_by_the_owner_and_forces_row_security(admin: Connection[Any]) -> None:
    rows = await admin.fetch(
        "SELECT relname, relkind, relrowsecurity, relforcerowsecurity, relowner::regrole::text AS owner FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version'"
    )
    assert {row["relname"] for row in rows} == TABLES
    for row in rows:
        assert (row["relkind"], row["relrowsecurity"], row["relforcerowsecurity"], row["owner"]) == (
            (b"p", True, True, "botctl_owner")
        ), row["relname"]


async def test_tables_have_sixteen_hash_partitions_and_the_audit_log_months(admin: Connection[Any]) -> None:
    rows = await admin.fetch(
        "SELECT inhparent::regclass::text AS parent, count(*) AS children, min(partstrat::text) AS strategy"
        " FROM pg_inherits JOIN pg_partitioned_table ON partrelid = inhparent GROUP BY inhparent"
    )
    children = {row["parent"]: (row["strategy"], row["children"]) for row in rows}
    assert children.pop("audit_log") == ("r", 4)  # this month, two ahead, and DEFAULT
    assert children == dict.fromkeys(TABLES - {"audit_log"}, ("h", 16))


async def test_every_key_leads_with_bot_id(admin: Connection[Any]) -> None:
    keys = await admin.fetch(
        "SELECT indexrelid::regclass::text AS name, a.attname AS first FROM pg_index"
        " JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = indkey[0]"
        " JOIN pg_class c ON c.oid = indrelid"
        " WHERE relnamespace IN ('public'::regnamespace, 'botctl_internal'::regnamespace)"
        " AND relname <> 'alembic_version'"
    )
    assert len(keys) > 100
    assert {row["name"] for row in keys if row["first"] != "bot_id"} == set()
    foreign = await admin.fetch(
        "SELECT conname, a.attname AS first, b.attname AS referred FROM pg_constraint"
        " JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]"
        " JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = confkey[1] WHERE contype = 'f'"
    )
    assert foreign
    assert {(row["first"], row["referred"]) for row in foreign} == {("bot_id", "bot_id")}


async def test_nobody_may_update_delete_or_truncate_a_whole_table(admin: Connection[Any]) -> None:
    held = await admin.fetch(
        "SELECT relname, role, privilege FROM pg_class, unnest($1::text[]) role,"
        " unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege"
        " WHERE relnamespace IN ('public'::regnamespace, 'botctl_internal'::regnamespace) AND relkind IN ('r', 'p')"
        " AND has_table_privilege(role, pg_class.oid, privilege)",
        list(GROUPS),
    )
    assert held == []


async def test_partitions_are_closed_to_everybody(admin: Connection[Any]) -> None:
    held = await admin.fetch(
        "SELECT relname, role FROM pg_class, unnest($1::text[]) role"
        " WHERE relnamespace = 'botctl_internal'::regnamespace AND relkind = 'r'"
        " AND has_any_column_privilege(role, pg_class.oid, 'SELECT, INSERT, UPDATE')",
        list(GROUPS),
    )
    assert held == []
    assert not await admin.fetchval("SELECT has_schema_privilege('bots', 'botctl_internal', 'USAGE')")


async def test_the_columns_a_bot_may_change(admin: Connection[Any]) -> None:
    rows = await admin.fetch(
        "SELECT relname, array_agg(attname::text ORDER BY attname) AS columns FROM pg_class"
        " JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0"
        " WHERE relnamespace = 'public'::regnamespace AND has_column_privilege('bots', attrelid, attnum, 'UPDATE')"
        " GROUP BY relname"
    )
    assert {row["relname"]: row["columns"] for row in rows} == {
        "users": ["first_name", "language_code", "last_name", "last_seen_at", "username"],
        "conversations": ["chat_id", "closed_at"],
        "messages": ["telegram_message_id"],
        "inbox": ["attempts", "begun_at", "done_at", "last_error", "next_attempt_at", "state"],
        "sends": ["attempts", "error", "result", "sent_at", "state", "uncertain", "waits_until"],
        "outbox": ["relayed_at"],
        "once_keys": ["at", "cause", "state"],
        "requests": ["answered_at", "error", "reply", "state"],
        "kept_data": ["gone", "updated_at", "value"],
        "chat_states": ["moved_to", "since", "unreachable"],
        "jobs": ["chat_id", "daily_at", "data", "due_at", "every", "set_at", "state", "timezone", "trace_id"],
    }


@pytest.mark.parametrize("table", ["bot_credentials", "bot_keys", "bot_secrets", "forgotten"])
async def test_what_only_control_may_know_is_closed_to_bots(admin: Connection[Any], table: str) -> None:
    for role in ("bots", "bots_ro"):
        held = await admin.fetchval(
            "SELECT has_any_column_privilege($1, $2, 'SELECT, INSERT, UPDATE, REFERENCES')", role, table
        )
        assert not held, role


async def test_functions_of_the_administrator_fix_their_search_path_and_are_not_public(admin: Connection[Any]) -> None:
    rows = await admin.fetch(
        "SELECT proname, proconfig, prosecdef, has_function_privilege('bots', oid, 'EXECUTE') AS for_bots,"
        " has_function_privilege('bots_ro', oid, 'EXECUTE') AS for_readers FROM pg_proc"
        " WHERE pronamespace IN ('botctl_admin'::regnamespace, 'botctl_internal'::regnamespace)"
    )
    assert len(rows) > 15
    for row in rows:
        assert not row["for_bots"], row["proname"]
        assert not row["for_readers"], row["proname"]
        if row["prosecdef"]:
            assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row["proname"]


async def test_no_role_of_ours_goes_round_row_security(admin: Connection[Any]) -> None:
    rows = await admin.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname ~ '^(bots|bots_ro|botctl_.*|bot_[0-9].*)$'"
        " AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)"
    )
    assert rows == []


async def test_public_has_lost_what_no_bot_needs(admin: Connection[Any]) -> None:
    assert not await admin.fetchval("SELECT has_database_privilege('bots', current_database(), 'TEMPORARY, CREATE')")
    assert not await admin.fetchval("SELECT has_schema_privilege('bots', 'public', 'CREATE')")
    left = await admin.fetch(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE has_function_privilege('bots', oid, 'EXECUTE')"
        " AND (proname ~ 'advisory' OR proname ~ '^lo_' OR proname IN ('loread', 'lowrite'))"
    )
    assert [name for (name,) in left] == ["pg_advisory_unlock_all()"], "pools of asyncpg call it, and no bot has a lock"
