"""Alembic's environment: one migration run at a time, in one transaction, with time limits. Forward only."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from botctl.storage.engine import login_engine
from botctl.storage.url import parse_database_url

WAIT_FOR_OTHERS = "120s"
"""How long to wait for another migration run on this database."""

LOCK_TIMEOUT = "10s"
"""A migration that can't get its lock gives up rather than queue every bot behind it."""

STATEMENT_TIMEOUT = "15min"


def run(connection: Connection) -> None:
    """Migrate over `connection` in one transaction."""
    context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
    with context.begin_transaction():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_FOR_OTHERS}'")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('botctl migrations', 0))")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        context.run_migrations()


async def run_by_hand() -> None:
    """Migrate the database of BOTCTL_DATABASE_URL."""
    engine = login_engine(parse_database_url(os.environ["BOTCTL_DATABASE_URL"]), pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("these migrations look at the server they run on; there is no --sql")
given = context.config.attributes.get("connection")
if given is not None:
    run(given)
elif "BOTCTL_DATABASE_URL" in os.environ:
    asyncio.run(run_by_hand())
else:
    raise SystemExit("set BOTCTL_DATABASE_URL to the administrator's URL")
