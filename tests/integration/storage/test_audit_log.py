"""The audit log: what is in it, who is named, what is masked, and its partitions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from botctl.storage.engine import connect

Connection = asyncpg.Connection


@pytest.fixture
async def control(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.control)
    yield connection
    await connection.close()


async def _entries(control: Connection[Any], bot_id: int) -> list[tuple[str, str, Any, Any]]:
    rows = await control.fetch(
        "SELECT actor, action, entity, before, after FROM audit_log WHERE bot_id = $1 ORDER BY at, audit_id", bot_id
    )
    expected = await control.fetchval("SELECT session_user::text")
    assert {row["actor"] for row in rows} <= {expected}
    return [
        (
            row["action"],
            row["entity"],
            row["before"] and json.loads(row["before"]),
            row["after"] and json.loads(row["after"]),
        )
        for row in rows
    ]


async def test_every_change_of_a_bot_is_recorded_with_before_and_after(control: Connection[Any]) -> None:
    await control.execute("INSERT INTO bots (bot_id, name) VALUES (3001, 'old'), (3002, 'other')")
    await control.execute("UPDATE bots SET name = 'new' WHERE bot_id = 3001")
    await control.execute("UPDATE bots SET name = name WHERE bot_id = 3001")
    (first, _, nothing, inserted), (second, entity, before, after) = await _entries(control, 3001)
    assert (first, nothing, inserted["name"]) == ("insert", None, "old")
    assert (second, entity, before["name"], after["name"]) == ("update", "bots", "old", "new")
    assert len(await _entries(control, 3002)) == 1


@pytest.mark.parametrize("role", ["replica", "local"])
async def test_no_setting_of_a_session_passes_the_triggers_by(
    database: Any, control: Connection[Any], role: str
) -> None:
    superuser = await connect(database.admin, {"session_replication_role": role})
    try:
        bot_id = {"replica": 3021, "local": 3022}[role]
        await superuser.execute(f"INSERT INTO bots (bot_id, name) VALUES ({bot_id}, '{role}')")
        await superuser.execute(f"UPDATE bots SET name = 'hidden {role}' WHERE bot_id = {bot_id}")
        found = await control.fetch("SELECT action FROM audit_log WHERE bot_id = $1 ORDER BY audit_id", bot_id)
        assert [row["action"] for row in found] == ["insert", "update"]
        # A bot that has got round row security, and past ordinary triggers.
        bot = await database.add_bot(bot_id)
        async with superuser.transaction():
            await superuser.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
            await superuser.execute(f"SET LOCAL SESSION AUTHORIZATION {bot.user}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="canary"):
                async with superuser.transaction():
                    await superuser.execute("UPDATE users SET username = 'x' WHERE bot_id = -1")
            await superuser.execute("RESET SESSION AUTHORIZATION; ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    finally:
        await superuser.close()


async def test_secrets_are_masked(control: Connection[Any]) -> None:
    await control.execute("INSERT INTO bot_credentials VALUES (3003, 1, 'deadbeef')")
    await control.execute(
        "UPDATE bot_credentials SET generation = 2, redis_password_sha256 = 'cafe' WHERE bot_id = 3003"
    )
    entries = await _entries(control, 3003)
    assert [entry[0] for entry in entries] == ["insert", "update"]
    assert [entries[1][2]["generation"], entries[1][3]["generation"]] == [1, 2]
    assert "deadbeef" not in json.dumps(entries)
    assert "cafe" not in json.dumps(entries)


async def test_keys_and_sealed_secrets_are_recorded_row_by_row_and_masked(control: Connection[Any]) -> None:
    await control.execute(
        "INSERT INTO bot_keys (bot_id, key_id, master_version, master_check, wrapped)"
        " SELECT 3008, n, 1, 'check-of-it', 'wrapped-it' FROM generate_series(1, 3) n"
    )
    await control.execute(
        "INSERT INTO bot_secrets (bot_id, name, key_id, sealed) VALUES (3008, 'token', 1, 'sealed-it')"
    )
    await control.execute("UPDATE bot_keys SET master_version = 2, master_check = 'another' WHERE bot_id = 3008")
    await control.execute("UPDATE bot_secrets SET key_id = 3 WHERE bot_id = 3008")
    entries = await _entries(control, 3008)
    updates = [
        (before, after) for action, entity, before, after in entries if (action, entity) == ("update", "bot_keys")
    ]
    assert sorted((before["key_id"], after["key_id"]) for before, after in updates) == [(1, 1), (2, 2), (3, 3)]
    assert {(before["master_version"], after["master_version"]) for before, after in updates} == {(1, 2)}
    assert [
        (entry[2]["key_id"], entry[3]["key_id"]) for entry in entries if entry[1] == "bot_secrets" and entry[2]
    ] == [(1, 3)]
    shown = json.dumps(entries)
    for secret in ("check-of-it", "another", "wrapped-it", "sealed-it", b"wrapped-it".hex(), b"sealed-it".hex()):
        assert secret not in shown
    assert '"***"' in shown


async def test_logins_are_recorded(database: Any, control: Connection[Any]) -> None:
    await database.add_bot(3004)
    await control.execute("SELECT botctl_admin.suspend_bot(3004)")
    await control.execute("SELECT botctl_admin.drop_bot(3004)")
    actions = [entry[0] for entry in await _entries(control, 3004)]
    assert actions == ["login.created", "login.password", "login.suspended", "login.dropped"]


async def test_a_bot_reads_its_own_entries_and_writes_none(database: Any, control: Connection[Any]) -> None:
    bot = await connect(await database.add_bot(3005))
    assert await bot.fetchval("SELECT count(*) FROM audit_log WHERE bot_id = 3005") == 2
    assert await bot.fetchval("SELECT count(*) FROM audit_log WHERE bot_id <> 3005") == 0
    await bot.close()
    for statement in ("INSERT INTO audit_log (bot_id, action, entity) VALUES (0, 'x', 'y')", "DELETE FROM audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await control.execute(statement)


async def test_control_appends_by_the_function_under_its_own_name(control: Connection[Any]) -> None:
    await control.execute("""SELECT botctl_internal.record_audit(3006, 'quarantine', 'bot', NULL, '{"why": "x"}')""")
    assert await _entries(control, 3006) == [("quarantine", "bot", None, {"why": "x"})]


async def test_rows_of_a_month_without_a_partition_are_kept_and_moved(database: Any, control: Connection[Any]) -> None:
    assert await control.fetchval("SELECT botctl_internal.ensure_audit_partitions(2)") == 0
    admin = await connect(database.admin)
    await admin.execute(
        "INSERT INTO audit_log (bot_id, at, action, entity)"
        " VALUES (3007, date_trunc('month', now()) + interval '5 months 10 days', 'later', 'x')"
    )
    assert await admin.fetchval("SELECT count(*) FROM botctl_internal.audit_log_default") == 1
    assert await control.fetchval("SELECT botctl_internal.ensure_audit_partitions(5)") == 3
    assert await admin.fetchval("SELECT count(*) FROM botctl_internal.audit_log_default") == 0
    assert await control.fetchval("SELECT count(*) FROM audit_log WHERE bot_id = 3007") == 1
    await admin.close()
