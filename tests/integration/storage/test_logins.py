"""Logins of bots and readers, made through the administrator's functions by `control`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from botctl.cli.checks import _ask_database
from botctl.cli.findings import Verdict
from botctl.control.watching.database_watch import DatabaseWatch
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage import scram
from botctl.storage.engine import connect, login_engine, parse_database_url

Connection = asyncpg.Connection


@pytest.fixture
async def control(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.control)
    yield connection
    await connection.close()


async def _is_closed(connection: Connection[Any]) -> None:
    async with asyncio.timeout(5):
        while not connection.is_closed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_login_has_its_settings_and_loses_those_it_gave_itself(database: Any, control: Connection[Any]) -> None:
    login = await database.add_bot(2001)
    bot = await connect(login)
    assert await bot.fetchval("SHOW statement_timeout") == "30s"
    assert await bot.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
    await bot.execute("ALTER ROLE bot_2001 SET statement_timeout = 0")
    await bot.execute(f"ALTER ROLE bot_2001 IN DATABASE \"{database.target.database}\" SET work_mem = '1GB'")
    await bot.close()
    assert await control.fetchval("SELECT botctl_admin.ensure_bot(2001, 6)") is False
    bot = await connect(login)
    assert await bot.fetchval("SHOW statement_timeout") == "30s"
    assert await bot.fetchval("SHOW work_mem") == "4MB"
    await bot.close()


async def test_a_new_password_ends_the_old_one_and_never_travels_as_it_is(
    database: Any, control: Connection[Any]
) -> None:
    old = await database.add_bot(2002)
    password = scram.new_password()
    with pytest.raises(asyncpg.InvalidParameterValueError, match="verifier"):
        await control.execute("SELECT botctl_admin.set_bot_password(2002, $1)", password)
    await control.execute("SELECT botctl_admin.set_bot_password(2002, $1)", scram.random_verifier(password))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(old)
    await (await connect(DatabaseLogin(target=old.target, user=old.user, password=password))).close()


async def test_a_suspended_bot_is_out_until_it_is_made_again(database: Any, control: Connection[Any]) -> None:
    login = await database.add_bot(2003)
    bot = await connect(login)
    assert await control.fetchval("SELECT botctl_admin.suspend_bot(2003)") is True
    assert await control.fetchval("SELECT botctl_admin.terminate_bot(2003)") == 1
    await _is_closed(bot)
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="not permitted to log in"):
        await connect(login)
    await control.execute("SELECT botctl_admin.ensure_bot(2003, 6)")
    await (await connect(login)).close()


async def test_a_dropped_bot_is_gone_with_its_sessions_and_its_rows_stay(
    database: Any, control: Connection[Any]
) -> None:
    login = await database.add_bot(2004)
    bot = await connect(login)
    await bot.execute("INSERT INTO users (bot_id, user_id) VALUES (2004, 1)")
    await bot.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    assert await control.fetchval("SELECT botctl_admin.drop_bot(2004)") is True
    await _is_closed(bot)
    assert await control.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'bot_2004'") == 0
    assert await control.fetchval("SELECT count(*) FROM users WHERE bot_id = 2004") == 1
    assert await control.fetchval("SELECT botctl_admin.drop_bot(2004)") is False


async def test_what_a_bot_has_changed_of_its_own_login_is_put_back(database: Any, control: Connection[Any]) -> None:
    """Else its next incarnation could neither log in nor write, however often it is started."""
    login, other = await database.add_bot(2011), await database.add_bot(2012)
    bot = await connect(login)
    assert await _mended(control) == []
    await bot.execute("ALTER ROLE bot_2011 SET default_transaction_read_only = on")
    await bot.execute(f'ALTER ROLE bot_2011 IN DATABASE "{database.target.database}" SET statement_timeout = 1')
    await bot.execute(f"ALTER ROLE bot_2011 PASSWORD '{scram.verifier('its-own-idea')}'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(login)
    assert await _mended(control) == [2011]
    assert await _mended(control) == []
    fresh = await connect(login)
    assert await fresh.fetchval("SHOW default_transaction_read_only") == "off"
    assert await fresh.fetchval("SHOW statement_timeout") == "30s"
    await (await connect(other)).close()
    told = await control.fetchval("SELECT after FROM audit_log WHERE bot_id = 2011 AND action = 'login.mended'")
    assert json.loads(told) == {"password": True, "settings": True}
    await fresh.close()
    await bot.close()


async def test_an_alteration_that_is_not_committed_holds_nobody_up(database: Any, control: Connection[Any]) -> None:
    login, other = await database.add_bot(2013), await database.add_bot(2014)
    holder, victim = await connect(login), await connect(other)
    await holder.execute("ALTER ROLE bot_2013 SET work_mem = '1MB'")
    await holder.execute("BEGIN")
    await holder.execute("ALTER ROLE bot_2013 SET work_mem = '2MB'")
    await victim.execute("ALTER ROLE bot_2014 SET work_mem = '1MB'")
    async with asyncio.timeout(5):
        assert await _mended(control) == [2014]
    await holder.close()
    async with asyncio.timeout(5):
        assert await _mended(control) == [2013]
    await victim.close()


async def test_control_mends_logins_and_ends_sessions_opened_meanwhile(database: Any, control: Connection[Any]) -> None:
    login = await database.add_bot(2015)
    bot = await connect(login)
    await bot.execute("ALTER ROLE bot_2015 SET default_transaction_read_only = on")
    poisoned = await connect(login)
    engine = login_engine(database.control)
    try:
        await DatabaseWatch(engine).check(tidy=True, blindly=True)
    finally:
        await engine.dispose()
    await _is_closed(poisoned)
    fresh = await connect(login)
    await fresh.execute("INSERT INTO users (bot_id, user_id) VALUES (2015, 1)")
    await fresh.close()


async def _mended(control: Connection[Any]) -> list[int]:
    return [row[0] for row in await control.fetch("SELECT botctl_admin.mend_bots(true)")]


@pytest.mark.parametrize("bot_id", [0, -1, 10**18, None])
async def test_only_the_id_of_a_bot_makes_a_login(control: Connection[Any], bot_id: int | None) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="not the id of a bot"):
        await control.execute("SELECT botctl_admin.ensure_bot($1, 4)", bot_id)


async def test_long_transactions_of_bots_are_ended_and_no_others(database: Any, control: Connection[Any]) -> None:
    bot = await connect(await database.add_bot(2005))
    await bot.execute("SET idle_in_transaction_session_timeout = 0")
    await bot.execute("BEGIN")
    await bot.execute("SELECT 1")
    assert await control.fetchval("SELECT botctl_admin.end_long_transactions('1 hour')") == 0
    async with asyncio.timeout(10), control.transaction():  # control's own transaction is as old
        while await control.fetchval("SELECT botctl_admin.end_long_transactions('1 second')") == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await _is_closed(bot)
    with pytest.raises(asyncpg.RaiseError, match="a second at least"):
        await control.fetchval("SELECT botctl_admin.end_long_transactions('0')")


async def test_a_long_transaction_in_another_database_is_ended_too(
    database: Any, control: Connection[Any], empty_database_url: str
) -> None:
    """PUBLIC may connect to other databases of the cluster."""
    other = parse_database_url(empty_database_url).target.database
    admin = await connect(database.admin)
    await admin.execute(f'CREATE DATABASE "{other}"')
    await admin.close()
    login = await database.add_bot(2016)
    target = login.target
    elsewhere = DatabaseTarget(host=target.host, port=target.port, database=other, sslmode=target.sslmode)
    bot = await connect(DatabaseLogin(target=elsewhere, user=login.user, password=login.password))
    await bot.execute("BEGIN")
    await bot.execute("SELECT 1")
    async with asyncio.timeout(10):
        while await control.fetchval("SELECT botctl_admin.end_long_transactions('1 second')") == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await _is_closed(bot)


async def test_the_first_act_of_an_incarnation_ends_the_last_ones_sessions(database: Any) -> None:
    """What the killed one had not committed must not be committed behind its successor's back."""
    login = await database.add_bot(2006)
    other = await connect(await database.add_bot(2007))
    old = await connect(login)
    await old.execute("BEGIN")
    await old.execute("INSERT INTO users (bot_id, user_id) VALUES (2006, 1)")
    new = await connect(login)
    assert await new.fetchval("SELECT botctl_end_my_others()") == 1
    assert await new.fetchval("SELECT botctl_end_my_others()") == 0
    assert await new.fetchval("SELECT count(*) FROM users WHERE bot_id = 2006") == 0
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await old.execute("COMMIT")
    assert await other.fetchval("SELECT 1") == 1
    await new.close()
    await other.close()


async def test_a_reader_sees_what_the_bot_sees_changes_nothing_and_ends_in_time(
    database: Any, control: Connection[Any]
) -> None:
    bot = await connect(await database.add_bot(2008))
    await bot.execute("INSERT INTO users (bot_id, user_id) VALUES (2008, 1)")
    await bot.close()
    password, until = scram.new_password(), datetime.now(UTC) + timedelta(hours=1)
    name = await control.fetchval("SELECT botctl_admin.open_reader(2008, $1, $2)", scram.verifier(password), until)
    login = DatabaseLogin(target=database.target, user=name, password=password)
    reader = await connect(login)
    assert await reader.fetchval("SELECT botctl_bot_id()") == 2008
    assert await reader.fetchval("SELECT count(*) FROM users") == 1
    await reader.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("INSERT INTO users (bot_id, user_id) VALUES (2008, 2)")
    assert await control.fetchval("SELECT botctl_admin.close_readers()") == 0
    assert await control.fetchval("SELECT botctl_admin.close_readers(true)") == 1
    await _is_closed(reader)
    with pytest.raises(asyncpg.PostgresError):
        await connect(login)
    with pytest.raises(asyncpg.RaiseError, match="a day at most"):
        await control.execute("SELECT botctl_admin.open_reader(2008, $1, 'infinity')", scram.verifier(password))


async def test_a_reader_whose_time_is_over_cannot_log_in_and_is_swept(database: Any, control: Connection[Any]) -> None:
    await database.add_bot(2009)
    password = scram.new_password()
    name = await control.fetchval(
        "SELECT botctl_admin.open_reader(2009, $1, now() - interval '1 second')", scram.verifier(password)
    )
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(DatabaseLogin(target=database.target, user=name, password=password))
    assert await control.fetchval("SELECT botctl_admin.close_readers()") == 1


async def test_doctor_names_the_other_databases_that_bots_can_enter(database: Any) -> None:
    found = {one.subject: one for one in await _ask_database(database.admin_url, 1, embedded=False)}
    assert found["other databases"].verdict is Verdict.WARN
    assert "postgres, template1" in found["other databases"].text
    found = {one.subject: one for one in await _ask_database(database.admin_url, 1, embedded=True)}
    assert "other databases" not in found or "postgres" not in found["other databases"].text.split()
