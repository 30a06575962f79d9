"""Brings a database's schema to head with alembic. Forward only; never drops what a bot has written."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import botctl
from botctl.errors import BotctlError
from botctl.handover import DatabaseLogin
from botctl.storage.engine import login_engine, parse_database_url

_alembic_in_use = threading.Lock()
"""Alembic keeps its context in module globals; between processes the database's advisory lock does this."""


def upgrade(admin_url: str) -> tuple[str | None, str]:
    """Upgrade to head; the revision before and after. Call it where no event loop runs."""
    return asyncio.run(upgrade_login(parse_database_url(admin_url)))


def current(admin_url: str) -> str | None:
    """The database's revision; None when it has no schema of ours."""
    return asyncio.run(current_of(parse_database_url(admin_url)))


async def upgrade_login(admin: DatabaseLogin) -> tuple[str | None, str]:
    """Upgrade to head as `admin`; the revision before and after.

    Raises BotctlError when the database is of a newer release than this one.
    """
    while not _alembic_in_use.acquire(blocking=False):  # noqa: ASYNC110 - the lock is of threads, not of one loop
        await asyncio.sleep(0.02)
    engine = login_engine(admin, pool_size=1, application_name="botctl migrations")
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()
        _alembic_in_use.release()


async def current_of(admin: DatabaseLogin) -> str | None:
    """The revision of the database of `admin`."""
    engine = login_engine(admin, pool_size=1, application_name="botctl migrations")
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_revision)
    finally:
        await engine.dispose()


def head() -> str:
    """The newest revision that this release knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None
    return newest


def migrations_folder() -> Path:
    """`migrations/` of the checkout, or `botctl/migrations` of an installed wheel."""
    package = Path(botctl.__file__).resolve().parent
    for folder in (package / "migrations", package.parent.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise BotctlError("the migrations are missing from this installation", hint="Install botctl again.")


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    before = _revision(connection)
    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise BotctlError(
            f"the database's schema is {before}, newer than this botctl knows ({head()})",
            hint="Upgrade botctl, or restore the backup made before the upgrade.",
        )
    command.upgrade(config, "head")
    connection.commit()
    after = _revision(connection)
    assert after is not None
    return before, after
