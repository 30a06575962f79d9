"""The schema: from empty to head, again, by several at once, by an administrator who is no superuser."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from botctl.errors import BotctlError, RefusedError, ServerUnsupportedError
from botctl.handover import DatabaseLogin
from botctl.storage import scram
from botctl.storage.bootstrap import check_server, prepare
from botctl.storage.engine import connect, parse_database_url
from botctl.storage.migrate import current_of, head, upgrade_login
from botctl.storage.url import format_database_url

ROOT = Path(__file__).parents[3]


async def test_an_empty_server_gets_its_database_and_schema(empty_database_url: str) -> None:
    first = await prepare(empty_database_url)
    assert (first.migrated_from, first.migrated_to) == (None, head())
    assert first.version.startswith(("15", "16", "17", "18"))
    second = await prepare(empty_database_url)
    assert (second.migrated_from, second.migrated_to) == (head(), head())
    assert second.control.user == first.control.user
    assert second.control.password != first.control.password
    assert await current_of(parse_database_url(empty_database_url)) == head()


async def test_several_in_one_process_take_turns(empty_database_url: str) -> None:
    made = await asyncio.gather(*(prepare(empty_database_url) for _ in range(3)))
    assert {one.migrated_to for one in made} == {head()}


PREPARE = """
import asyncio, sys
from botctl.storage.bootstrap import prepare
print("ready", flush=True)
sys.stdin.readline()
print((asyncio.run(prepare(sys.argv[1]))).migrated_from)
"""


def _prepare_at_once(*urls: str) -> list[str]:
    """Run `prepare` in a process for each URL, all let go together; what each says it migrated from."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for url in urls
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    said = []
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        said.append(output.decode().strip())
    return said


def test_several_processes_take_turns(empty_database_url: str) -> None:
    said = _prepare_at_once(*[empty_database_url] * 3)
    assert len(said) == 3
    assert set(said) <= {"None", head()}


def test_several_databases_at_once_in_a_new_cluster(new_postgres: Any) -> None:
    """Group roles are the cluster's: each migration may find them missing and lose the race to make them."""
    urls = [new_postgres.admin_url.replace("/botctl?", f"/fleet_{number}?") for number in range(3)]
    assert _prepare_at_once(*urls) == ["None"] * 3


async def test_control_can_log_in_and_see_all_bots_without_being_superuser(empty_database_url: str) -> None:
    made = await prepare(empty_database_url)
    connection = await connect(made.control)
    try:
        assert await connection.fetchval("SELECT count(*) FROM bots") == 0
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == head()
        await connection.execute("INSERT INTO outbox (bot_id, event_id, type) VALUES (0, 'e', 'fleet.started')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE ROLE mine")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT botctl_admin.ensure_control('x')")
    finally:
        await connection.close()


async def test_a_schema_of_a_newer_release_is_left_alone(empty_database_url: str) -> None:
    admin = parse_database_url(empty_database_url)
    await prepare(empty_database_url)
    connection = await connect(admin)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(BotctlError, match="newer than this botctl knows"):
        await upgrade_login(admin)


async def test_a_server_that_is_not_there_is_waited_for_and_then_reported() -> None:
    with pytest.raises(BotctlError, match="did not answer within"):
        await prepare("postgresql://nobody:x@127.0.0.1:1/none?sslmode=disable", wait=0.2)


async def test_a_wrong_password_is_reported_at_once(postgres_admin_url: str) -> None:
    admin = parse_database_url(postgres_admin_url)
    wrong = format_database_url(DatabaseLogin(target=admin.target, user=admin.user, password="wrong"))
    with pytest.raises(RefusedError, match="refused the login"):
        await prepare(wrong)


async def test_an_old_server_and_another_encoding_are_refused(database: Any) -> None:
    class Old:
        """The two answers that are looked at, as PostgreSQL 14 gives them."""

        def __init__(self, major: int, encoding: str) -> None:
            self.settings = type("Settings", (), {"server_version": f"{major}.9", "server_encoding": encoding})()
            self.version = asyncpg.types.ServerVersion(major, 9, 0, "final", 0)

        def get_settings(self) -> Any:
            return self.settings

        def get_server_version(self) -> Any:
            return self.version

    with pytest.raises(ServerUnsupportedError, match=r"PostgreSQL 14\.9; botctl needs 15"):
        await check_server(Old(14, "UTF8"))
    with pytest.raises(ServerUnsupportedError, match="LATIN1"):
        await check_server(Old(15, "LATIN1"))


def test_alembic_by_hand_finds_the_migrations(database: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "current"],
        env={"BOTCTL_DATABASE_URL": database.admin_url, "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"{head()} (head)" in done.stdout


async def test_a_role_of_the_same_name_that_is_not_ours_is_refused(postgres_admin_url: str, database: Any) -> None:
    admin = await connect(database.admin)
    control = await connect(database.control)
    try:
        await admin.execute("CREATE ROLE bot_777 LOGIN")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="does not belong to this database"):
            await control.execute("SELECT botctl_admin.ensure_bot(777, 4)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="does not belong to this database"):
            await control.execute("SELECT botctl_admin.drop_bot(777)")
        await admin.execute("COMMENT ON ROLE bot_777 IS 'botctl another'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as caught:
            await control.execute("SELECT botctl_admin.terminate_bot(777)")
        assert "botctl another" in str(caught.value.detail)
    finally:
        await admin.execute("DROP ROLE IF EXISTS bot_777")
        await admin.close()
        await control.close()


async def test_an_administrator_without_superuser_can_migrate_and_make_logins(new_postgres: Any) -> None:
    superuser = parse_database_url(new_postgres.admin_url)  # in a cluster of its own: group roles have one maker
    made = await _as_createrole(superuser)
    connection = await connect(made)
    try:
        assert await connection.fetchval("SELECT botctl_admin.ensure_bot(5, 4)") is True
        assert await connection.fetchval("SELECT botctl_admin.ensure_bot(5, 4)") is False
        assert await connection.fetchval("SELECT botctl_admin.terminate_bot(5)") == 0
        assert await connection.fetchval("SELECT botctl_admin.suspend_bot(5)") is True
        assert await connection.fetchval("SELECT botctl_admin.drop_bot(5)") is True
    finally:
        await connection.close()


async def test_an_administrator_without_superuser_sets_passwords_anew_unseen(new_postgres: Any) -> None:
    control = await connect(await _as_createrole(parse_database_url(new_postgres.admin_url)))
    password = scram.new_password()
    login = DatabaseLogin(target=parse_database_url(new_postgres.admin_url).target, user="bot_5", password=password)
    try:
        await control.execute("SELECT botctl_admin.ensure_bot(5, 4)")
        await control.execute("SELECT botctl_admin.set_bot_password(5, $1)", scram.random_verifier(password))
        bot = await connect(login)
        await bot.execute("ALTER ROLE bot_5 SET default_transaction_read_only = on")
        await bot.execute(f"ALTER ROLE bot_5 PASSWORD '{scram.verifier('its-own-idea')}'")
        await bot.close()
        assert await control.fetchval("SELECT botctl_admin.mend_bots()") == 5, "settings are seen"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(login)
        assert await control.fetchval("SELECT botctl_admin.mend_bots(true)") is None
        bot = await connect(login)
        assert await bot.fetchval("SHOW default_transaction_read_only") == "off"
        await bot.close()
    finally:
        await control.close()


async def _as_createrole(superuser: DatabaseLogin) -> DatabaseLogin:
    """Migrate as a login with CREATEROLE that owns its database; `control`'s login."""
    target = type(superuser.target)(
        host=superuser.target.host, port=superuser.target.port, database="postgres", sslmode="disable"
    )
    connection = await connect(DatabaseLogin(target=target, user=superuser.user, password=superuser.password))
    await connection.execute("CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'manager'")
    await connection.close()
    manager = DatabaseLogin(target=superuser.target, user="manager", password="manager")
    return (await prepare(format_database_url(manager))).control
