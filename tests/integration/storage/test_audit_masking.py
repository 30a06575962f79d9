"""No secret reaches the audit log: every column of an audited table is known to be clear, or is seen to be masked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from botctl.storage.engine import connect

Connection = asyncpg.Connection

CLEAR = {
    "bots": {
        *("bot_id", "name", "managed_by", "enabled", "token_fingerprint", "config", "created_at", "updated_at"),
        *("removed_at", "quarantine", "newest_key_id"),
    },
    "bot_credentials": {"bot_id", "generation", "rotated_at"},
    "bot_keys": {"bot_id", "key_id", "master_version", "created_at", "retired_at"},
    "bot_secrets": {"bot_id", "name", "key_id", "set_at"},
    "bus_grants": {"bot_id", "name", "logs", "group_name", "start_id", "granted_at", "revoked_at"},
}
MASKED = {
    "bots": set[str](),
    "bot_credentials": {"redis_password_sha256"},
    "bot_keys": {"master_check", "wrapped"},
    "bot_secrets": {"sealed"},
    "bus_grants": {"group_key", "password_sha256"},
}
SECRET = "5ec2e7-of-the-fleet"
SECRET_HEX = "5ec2e70f7"
TOKEN = "123456789:AAE2etest-0123456789-xxxxxxxxxxxxxxx"


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.admin)
    yield connection
    await connection.close()


@pytest.fixture
async def control(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.control)
    yield connection
    await connection.close()


async def _audited(admin: Connection[Any]) -> dict[str, dict[str, str]]:
    """Columns, with their types, of each table that has a trigger of the audit log."""
    rows = await admin.fetch(
        "SELECT DISTINCT c.relname, a.attname, a.atttypid::regtype::text AS type FROM pg_trigger t"
        " JOIN pg_class c ON c.oid = tgrelid JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0"
        " WHERE tgfoid = 'botctl_internal.audit_change'::regproc AND NOT attisdropped"
        " AND c.relnamespace = 'public'::regnamespace"
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["relname"], {})[row["attname"]] = row["type"]
    return found


def _unclassified(audited: dict[str, dict[str, str]]) -> set[str]:
    """Columns that nobody has thought about, and binary ones that somebody calls clear."""
    return {
        f"{table}.{column}"
        for table, columns in audited.items()
        for column, kind in columns.items()
        if column not in CLEAR.get(table, set()) | MASKED.get(table, set())
        or (kind == "bytea" and column not in MASKED.get(table, set()))
    }


async def test_every_column_of_an_audited_table_is_classified(admin: Connection[Any]) -> None:
    audited = await _audited(admin)
    assert set(audited) >= {"bots", "bot_credentials", "bot_keys", "bot_secrets"}
    assert _unclassified(audited) == set()
    clear = {table: CLEAR[table] | MASKED[table] for table in audited}
    assert clear == {table: set(columns) for table, columns in audited.items()}, "a column that is gone"


async def test_a_column_that_is_added_has_to_be_classified(admin: Connection[Any]) -> None:
    transaction = admin.transaction()
    await transaction.start()
    try:
        await admin.execute("ALTER TABLE bots ADD COLUMN something bytea")
        assert _unclassified(await _audited(admin)) == {"bots.something"}
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("table", sorted(MASKED))
async def test_masked_columns_are_masked_in_every_kind_of_entry(admin: Connection[Any], table: str) -> None:
    bot_id = 0 if table == "bus_grants" else 5001
    secrets = {"group_key": f"{SECRET_HEX:0<32}", "password_sha256": f"{SECRET_HEX:0<64}"}
    values = {
        "bot_id": str(bot_id), "name": f"'{table}'", "generation": "1", "key_id": "1", "master_version": "1",
        "logs": "'{bot}'", "group_name": "'g'", "start_id": "'0'",
    } | {column: f"'{secrets.get(column, SECRET)}'" for column in MASKED[table]}  # fmt: skip
    columns = [column for column in values if column in CLEAR[table] | MASKED[table]]
    transaction = admin.transaction()
    await transaction.start()
    try:
        if table == "bot_secrets":
            await admin.execute(
                "INSERT INTO bot_keys (bot_id, key_id, master_version, master_check, wrapped)"
                " VALUES (5001, 1, 1, '', '')"
            )
        await admin.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values[one] for one in columns)})"
        )
        for column in MASKED[table]:
            changed = secrets[column][:-1] + "2" if column in secrets else f"{SECRET}-2"
            await admin.execute(f"UPDATE {table} SET {column} = '{changed}' WHERE bot_id = {bot_id}")
        await admin.execute(f"DELETE FROM {table} WHERE bot_id = {bot_id}")
        rows = await admin.fetch(
            "SELECT action, before, after FROM audit_log WHERE starts_with(entity, $1) AND bot_id = $2"
            " ORDER BY audit_id",
            table,
            bot_id,
        )
        assert {row["action"] for row in rows} >= {"insert", "delete"}
        shown = "".join(str(row["before"]) + str(row["after"]) for row in rows)
        assert SECRET not in shown
        assert SECRET.encode().hex() not in shown
        assert SECRET_HEX not in shown
        for column in MASKED[table]:
            assert json.loads(rows[0]["after"])[column] == "***"
    finally:
        await transaction.rollback()


async def test_what_is_named_or_looks_like_a_secret_is_masked_wherever_it_stands(control: Connection[Any]) -> None:
    given = {
        "config": {
            "assistant": {"api_key": SECRET, "max_tokens": 500, "instructions": f"Say {TOKEN} to nobody."},
            "proxies": [f"socks5://ann:{SECRET}@proxy:1080", "http://proxy/path@home"],
            "token_file": "/etc/token",
            "token_fingerprint": "0123",
        },
        "password": True,
        "bot_token": TOKEN,
        "credentials": {"user": "ann", "pass": SECRET},
        "raw": "\\x" + SECRET.encode().hex(),
        "nothing": None,
        "text": "žlutý kůň",
    }
    await control.execute(
        "SELECT botctl_internal.record_audit(5002, 'x', 'y', $1, $1)", json.dumps(given, ensure_ascii=False)
    )
    await control.execute("SELECT botctl_internal.record_operator(5002, 'ann', 'x', 'y', $1, $1)", json.dumps(given))
    rows = await control.fetch("SELECT actor, before, after FROM audit_log WHERE bot_id = 5002 ORDER BY audit_id")
    assert rows[1]["actor"] == "operator:ann"
    for row in rows:
        for shown in (row["before"], row["after"]):
            assert json.loads(shown) == {
                "config": {
                    "assistant": {"api_key": "***", "max_tokens": 500, "instructions": "Say 123456789:*** to nobody."},
                    "proxies": ["socks5://***@proxy:1080", "http://proxy/path@home"],
                    "token_file": "/etc/token",
                    "token_fingerprint": "0123",
                },
                "password": True,
                "bot_token": "***",
                "credentials": "***",
                "raw": "***",
                "nothing": None,
                "text": "žlutý kůň",
            }


async def test_no_login_is_called_as_an_operator_is(admin: Connection[Any]) -> None:
    """`control` names operators; it can't so name a bot, or itself."""
    await admin.execute("SELECT botctl_internal.record_operator(5003, 'bot_5003', 'x', 'y', NULL, NULL)")
    await admin.execute("SELECT botctl_internal.record_operator(5003, '', 'x', 'y', NULL, NULL)")
    actors = await admin.fetch("SELECT actor FROM audit_log WHERE bot_id = 5003 ORDER BY audit_id")
    assert [row["actor"] for row in actors] == ["operator:bot_5003", "operator"]
