"""SQLAlchemy engines over asyncpg: for a bot's login, and for any other.

Repositories run their hot statements with `connection.exec_driver_sql(sql, params)`: `$1` style, jsonb goes in as JSON
text and comes out decoded. Never retries a statement; a dead connection is replaced at the next use.
"""

from __future__ import annotations

import itertools
import ssl as tls
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import event, exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage.url import parse_database_url

__all__ = ["bot_engine", "connect", "login_engine", "parse_database_url"]

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for one connection."""

CHECKOUT_TIMEOUT = 30.0
"""Seconds to wait for a free connection of the pool."""

STATEMENTS_KEPT = 64
"""Prepared statements a connection keeps: a bot has few distinct ones, and each costs memory on both sides."""

_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}
"""A bot's statements are planned once a connection, and each has an index it can follow. Left to itself the planner
reads the whole of a table that was empty when it looked, and goes on when it has grown; and it reads and sorts a whole
conversation for its last messages, because it knows nothing of most columns (they have no statistics)."""

_REFUSED = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)
_SERVER_WENT_AWAY = ("57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006")


def bot_engine(
    target: DatabaseTarget, bot_id: int, passwords: Callable[[], tuple[str, ...]], *, pool_size: int = 2
) -> AsyncEngine:
    """The engine of one bot.

    `passwords` is asked at every connection, newest first: while a password is being rotated either may be the one
    that works. Statements must carry bot_id as a literal, so their generic plan touches one partition.
    """
    settings = {"application_name": f"botctl bot {bot_id}", **_PLANS}

    async def create() -> asyncpg.Connection[Any]:
        refused: Exception | None = None
        # Once more after all were refused: the password may have been altered between two attempts.
        for password in itertools.chain(dict.fromkeys(passwords()), _once_more(passwords)):
            login = DatabaseLogin(target=target, user=f"bot_{bot_id}", password=password)
            try:
                return await connect(login, settings)
            except _REFUSED as error:
                refused = error
        raise refused or RuntimeError(f"bot {bot_id} has no database password yet")

    return _engine(create, pool_size)


def _once_more(passwords: Callable[[], tuple[str, ...]]) -> Iterator[str]:
    """Asked for only when it comes to it."""
    candidates = passwords()
    if len(candidates) > 1:
        yield candidates[0]


def login_engine(login: DatabaseLogin, *, pool_size: int = 2, application_name: str = "botctl") -> AsyncEngine:
    """The engine of a login with one password."""

    async def create() -> asyncpg.Connection[Any]:
        return await connect(login, {"application_name": application_name})

    return _engine(create, pool_size)


async def connect(login: DatabaseLogin, settings: dict[str, str] | None = None) -> asyncpg.Connection[Any]:
    """One asyncpg connection. `settings` are the session's defaults, which RESET ALL goes back to."""
    target = login.target
    return await asyncpg.connect(
        host=target.host,
        port=target.port,
        user=login.user,
        password=login.password,
        database=target.database,
        ssl=_tls(target.sslmode),
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=STATEMENTS_KEPT,
        server_settings={"client_encoding": "utf-8", **(settings or {})},
    )


def _engine(create: Callable[[], Awaitable[asyncpg.Connection[Any]]], pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=create,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CHECKOUT_TIMEOUT,
        pool_use_lifo=True,
        json_deserializer=msgspec.json.decode,
        query_cache_size=64,
    )
    event.listen(engine.sync_engine.pool, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _note_disconnect)
    return engine


def _refuse_closed(connection: Any, record: object, proxy: object) -> None:
    """asyncpg knows at once when the server has closed a connection: no ping needed to avoid using it."""
    if connection.driver_connection.is_closed():
        raise exc.InvalidatePoolError("the server has closed this connection")


def _note_disconnect(context: ExceptionContext) -> None:
    """The server's last words may arrive before the end of the stream; the connection is lost all the same."""
    if getattr(context.original_exception, "sqlstate", None) in _SERVER_WENT_AWAY:
        context.is_disconnect = True


def _tls(sslmode: str) -> str | bool | tls.SSLContext:
    return False if sslmode == "disable" else sslmode
