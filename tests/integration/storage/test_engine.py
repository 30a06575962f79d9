"""Engines: passwords in turn, settings, literals and JSON, and coming back after the server was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from botctl.storage import scram
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import bot_engine, connect, login_engine, parse_database_url


async def test_passwords_are_tried_in_turn(database: Any) -> None:
    login = await database.add_bot(4001)
    engine = bot_engine(login.target, 4001, lambda: ("not-yet", login.password))
    async with engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT botctl_bot_id()")).scalar_one() == 4001
    await engine.dispose()
    engine = bot_engine(login.target, 4001, lambda: ("wrong", "wrong", "also-wrong"))
    with pytest.raises((asyncpg.InvalidPasswordError, DBAPIError)):
        async with engine.connect():
            pass
    await engine.dispose()


async def test_a_rotated_password_is_used_by_the_next_connection(database: Any) -> None:
    login = await database.add_bot(4002)
    passwords = [login.password]
    engine = bot_engine(login.target, 4002, lambda: tuple(passwords), pool_size=2)
    new = scram.new_password()
    async with engine.connect() as first:
        control = await connect(database.control)
        await control.execute("SELECT botctl_admin.set_bot_password(4002, $1)", scram.random_verifier(new))
        await control.close()
        passwords.insert(0, new)
        async with engine.connect() as second:
            for connection in (first, second):
                assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
    await engine.dispose()


async def test_a_password_altered_between_two_attempts_is_tried_once_more(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New is refused because it isn't there yet, and old because new is there by then."""
    login = await database.add_bot(4009)
    new = scram.new_password()
    tried: list[str] = []

    async def interrupted(login: Any, settings: dict[str, str] | None = None) -> asyncpg.Connection[Any]:
        tried.append(login.password)
        try:
            return await connect(login, settings)
        except asyncpg.InvalidPasswordError:
            if len(tried) == 1:
                control = await connect(database.control)
                await control.execute("SELECT botctl_admin.set_bot_password(4009, $1)", scram.random_verifier(new))
                await control.close()
            raise

    monkeypatch.setattr("botctl.storage.engine.connect", interrupted)
    engine = bot_engine(login.target, 4009, lambda: (new, login.password), pool_size=1)
    async with engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
    assert tried == [new, login.password, new]
    await engine.dispose()


async def test_a_session_has_its_settings_even_after_reset_all(database: Any) -> None:
    login = await database.add_bot(4003)
    engine = bot_engine(login.target, 4003, lambda: (login.password,), pool_size=1)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SET plan_cache_mode = auto")
        await connection.exec_driver_sql("RESET ALL")
        for name, value in (("plan_cache_mode", "force_generic_plan"), ("application_name", "botctl bot 4003")):
            assert (await connection.exec_driver_sql(f"SHOW {name}")).scalar_one() == value
    await engine.dispose()


async def test_json_goes_in_as_text_and_comes_out_decoded(database: Any) -> None:
    login = await database.add_bot(4004)
    engine = bot_engine(login.target, 4004, lambda: (login.password,))
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO inbox (bot_id, cause, kind, lane, payload) VALUES (4004, $1, 'message', 'chat:1', $2)",
            ("update:1", '{"text": "ä"}'),
        )
        result = await connection.exec_driver_sql("SELECT payload FROM inbox WHERE bot_id = 4004")
        assert result.scalar_one() == {"text": "ä"}
    await engine.dispose()


async def test_a_terminated_session_is_replaced(database: Any) -> None:
    login = await database.add_bot(4005)
    engine = bot_engine(login.target, 4005, lambda: (login.password,))
    control = await connect(database.control)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    assert await control.fetchval("SELECT botctl_admin.terminate_bot(4005)") == 1
    while await control.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = 'bot_4005'"):
        pass
    with contextlib.suppress(DBAPIError):  # this use may find the connection dying under it; the next may not
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
    for _ in range(3):
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
    await control.close()
    await engine.dispose()


async def test_after_kill_9_of_the_server_the_next_use_works(new_postgres: Any) -> None:
    """With no ping: asyncpg has seen the end of the stream, and the pool refuses what it knows to be closed."""
    control = (await prepare(new_postgres.admin_url)).control
    engine = login_engine(control, pool_size=2)
    async with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            await connection.exec_driver_sql("SELECT 1")
    new_postgres.server.stop(signal.SIGKILL)
    with pytest.raises((DBAPIError, OSError)):
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
    new_postgres.start_again()
    async with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
    await engine.dispose()


async def test_a_transaction_that_the_server_s_death_interrupted_is_not_committed(new_postgres: Any) -> None:
    control = (await prepare(new_postgres.admin_url)).control
    engine = login_engine(control, pool_size=1)
    connection = await engine.connect()
    await connection.exec_driver_sql("INSERT INTO bots (bot_id, name) VALUES (1, 'lost')")
    session = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
    new_postgres.server.stop(signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it ends by itself, but a COMMIT might still be faster
        os.kill(session, signal.SIGKILL)
    with pytest.raises((DBAPIError, OSError)):
        await connection.commit()
    await connection.close()
    new_postgres.start_again()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO bots (bot_id, name) VALUES (2, 'kept')")
    async with engine.connect() as connection:
        names = (await connection.exec_driver_sql("SELECT name FROM bots")).scalars().all()
    assert names == ["kept"]
    await engine.dispose()


async def test_no_password_reaches_the_server_s_log(new_postgres: Any) -> None:
    """Even with every statement logged: the server is given verifiers only, and those as parameters."""
    first = await prepare(new_postgres.admin_url)
    admin = await connect(parse_database_url(new_postgres.admin_url))
    await admin.execute("ALTER SYSTEM SET log_statement = 'all'")
    await admin.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()
    second = await prepare(new_postgres.admin_url)
    password = scram.new_password()
    control = await connect(second.control)
    await control.execute("SELECT botctl_admin.ensure_bot(5, 4)")
    await control.execute("SELECT botctl_admin.set_bot_password(5, $1)", scram.random_verifier(password))
    await control.close()
    deadline = time.monotonic() + 10
    while "set_bot_password(5, $1)" not in (output := new_postgres.messages()):
        assert time.monotonic() < deadline, output
        await asyncio.sleep(0.02)
    output += new_postgres.server.output()
    for secret in (first.control.password, second.control.password, password):
        assert secret not in output
    assert "SCRAM-SHA-256$" not in output
