"""Makes a server ready for a fleet, as the administrator: waits for it, checks it, migrates, makes `control`'s login.

Only the one-shot set-up process runs this. Never leaves the administrator's password with anybody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg

from botctl.errors import BotctlError, RefusedError, ServerUnsupportedError
from botctl.handover import DatabaseLogin
from botctl.storage import scram
from botctl.storage.engine import connect, parse_database_url
from botctl.storage.migrate import upgrade_login

OLDEST_SERVER = 15
"""PostgreSQL 14 ended in 2026; views that respect row level security (security_invoker) came with 15."""

RETRY_EVERY = 0.05
"""Seconds between attempts to reach a server that isn't there yet."""

CHECKPOINT_TIMEOUT = 4.0
"""Seconds to wait for a checkpoint; the server finishes it all the same. Less than set-up has to end in."""

_NOT_YET = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)


@dataclass(frozen=True)
class Prepared:
    """What was found and made. `control` may be used at once; its password is new."""

    control: DatabaseLogin
    version: str
    migrated_from: str | None
    migrated_to: str
    master_checks: list[tuple[int, str]]


async def prepare(admin_url: str, *, wait: float = 60.0) -> Prepared:
    """Bring the database of `admin_url` to head, creating it if need be, and give `control` a new password.

    Waits `wait` seconds for the server to answer. Raises ServerUnsupportedError, RefusedError, UsageError or
    BotctlError.
    """
    admin = parse_database_url(admin_url)
    connection = await _reach(admin, wait)
    try:
        version = await check_server(connection)
    finally:
        await connection.close()
    before, after = await upgrade_login(admin)
    connection = await connect(admin, {"application_name": "botctl set-up"})
    try:
        control = await _make_control(connection, admin)
        checks = await connection.fetch("SELECT DISTINCT master_version, master_check FROM bot_keys ORDER BY 1, 2")
    finally:
        await connection.close()
    return Prepared(control, version, before, after, [(row[0], row[1]) for row in checks])


async def checkpoint(admin_url: str) -> None:
    """Have the server write to disk what it has changed. That it can't or takes long is no failure."""
    try:
        async with asyncio.timeout(CHECKPOINT_TIMEOUT):
            connection = await connect(parse_database_url(admin_url), {"application_name": "botctl set-up"})
            try:
                await connection.execute("CHECKPOINT")
            finally:
                connection.terminate()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return


async def check_server(connection: asyncpg.Connection[Any]) -> str:
    """The server's version. Raises ServerUnsupportedError when it is too old or can't hold every text."""
    settings = connection.get_settings()
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise ServerUnsupportedError(
            f"the server is PostgreSQL {settings.server_version}; botctl needs {OLDEST_SERVER} or newer",
            hint="Upgrade the server, or leave BOTCTL_DATABASE_URL empty to use the embedded one.",
        )
    if settings.server_encoding != "UTF8":
        raise ServerUnsupportedError(
            f"the database's encoding is {settings.server_encoding}, not UTF8",
            hint="Create it with ENCODING 'UTF8' TEMPLATE template0.",
        )
    return str(settings.server_version)


async def _reach(admin: DatabaseLogin, wait: float) -> asyncpg.Connection[Any]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        try:
            return await connect(admin, {"application_name": "botctl set-up"})
        except asyncpg.InvalidCatalogNameError:
            await _create_database(admin)
        except _NOT_YET as error:
            if loop.time() >= deadline:
                raise BotctlError(
                    f"PostgreSQL at {admin.target.host}:{admin.target.port} did not answer within {wait:g} s: {error}",
                    hint="Is the server running, and may this machine connect to it?",
                ) from None
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise RefusedError(f"PostgreSQL refused the login: {error}", hint="Check BOTCTL_DATABASE_URL.") from None
        except asyncpg.PostgresError as error:
            raise BotctlError(f"PostgreSQL refused the connection: {error}") from None
        await asyncio.sleep(RETRY_EVERY)


async def _create_database(admin: DatabaseLogin) -> None:
    name = admin.target.database
    elsewhere = DatabaseLogin(
        target=type(admin.target)(
            host=admin.target.host, port=admin.target.port, database="postgres", sslmode=admin.target.sslmode
        ),
        user=admin.user,
        password=admin.password,
    )
    try:
        connection = await connect(elsewhere)
        try:
            quoted = name.replace('"', '""')
            await connection.execute(f"CREATE DATABASE \"{quoted}\" ENCODING 'UTF8' TEMPLATE template0")
        finally:
            await connection.close()
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return  # somebody else was a moment faster
    except asyncpg.PostgresError as error:
        raise RefusedError(
            f"there is no database {name!r}, and it can't be created: {error}",
            hint=f"Create it, owned by {admin.user}, or name another in BOTCTL_DATABASE_URL.",
        ) from None


async def _make_control(connection: asyncpg.Connection[Any], admin: DatabaseLogin) -> DatabaseLogin:
    password = scram.new_password()
    async with connection.transaction():
        await connection.execute("SELECT botctl_admin.harden()")
        await connection.execute("SELECT botctl_internal.rebase_audit()")
        user = await connection.fetchval("SELECT botctl_admin.ensure_control($1)", scram.random_verifier(password))
    return DatabaseLogin(target=admin.target, user=user, password=password)
