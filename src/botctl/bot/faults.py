"""What kind of trouble an exception is: the environment's, or the update's own.

Trouble of the environment is waited out and never counts against an update.
"""

from __future__ import annotations

import traceback

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, ResourceClosedError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from telegram.error import BadRequest, NetworkError, RetryAfter

from botctl.observability.logs import redact

_AWAY_CLASSES = ("08", "53", "57P")
"""SQLSTATE: no connection; out of memory, disk or connections; the server is stopping, starting or recovering."""

_DISK_FULL = "53100"

_READ_ONLY = "25006"
"""SQLSTATE: a read-only transaction, as after a failover on the server that is no primary any more."""

_RETRY_STATES = frozenset({"40001", "40P01", "25P02", "55P03", "57014"})
"""SQLSTATE: serialisation failure, deadlock, aborted transaction, lock and statement timeouts."""

_LOGIN_CLASS = "28"

_TORN = (OSError, InterfaceError, asyncpg.InterfaceError, asyncpg.InternalClientError, ResourceClosedError)
"""No word of the server: the connection is of no use, or was in use when it ended."""

_TRACEBACK = 6000
"""Characters of a traceback that are kept; its end tells most."""


def database_away(error: BaseException) -> bool:
    """Whether the database can't be used now, by anybody; the same work is to be done again when it can.

    That all connections of a pool are in use is no sign of it.
    """
    chain = _chain(error)
    if any(isinstance(cause, PoolTimeoutError) for cause in chain):
        return False
    for cause in chain:
        if isinstance(cause, _TORN):
            return True
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return True
        if isinstance(cause, asyncpg.PostgresError):
            state = cause.sqlstate or ""
            if state.startswith((*_AWAY_CLASSES, _LOGIN_CLASS)) or state == _READ_ONLY:
                return True
    return False


def disk_full(error: BaseException) -> bool:
    """Whether the database found no room to write: it answers, and reading goes on."""
    return any(isinstance(cause, asyncpg.PostgresError) and cause.sqlstate == _DISK_FULL for cause in _chain(error))


def data_refused(error: BaseException) -> bool:
    """Whether it is the data itself that the database refuses: what it can't hold, or more than it can take in."""
    return any(
        isinstance(cause, asyncpg.PostgresError) and (cause.sqlstate or "").startswith(("22", "23", "54"))
        for cause in _chain(error)
    )


def retry_soon(error: BaseException) -> bool:
    """Whether the server is well and the work failed only this time: a deadlock, a lock timeout, no connection free."""
    return any(
        isinstance(cause, PoolTimeoutError)
        or (isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in _RETRY_STATES)
        for cause in _chain(error)
    )


def environmental(error: BaseException) -> bool:
    """Whether a handler failed because Telegram or the bot's database was away, so that its attempt doesn't count.

    What else a handler depends on is its own affair: that counts.
    """
    if isinstance(error, BadRequest):
        return False
    if isinstance(error, NetworkError | RetryAfter):
        return True
    return isinstance(error, SQLAlchemyError) and (database_away(error) or retry_soon(error))


def brief(error: BaseException, limit: int = 500) -> str:
    """One line on an exception, for rows, events and logs: without secrets, whatever a handler put into its message."""
    from botctl.storage.cleaning import clean_text

    text = redact(clean_text(" ".join(str(error).split())))
    return f"{type(error).__name__}: {text}"[:limit] if text else type(error).__name__


def traceback_of(error: BaseException | None) -> str | None:
    """Where an exception comes from, its last 6000 characters: without secrets, as `brief`."""
    from botctl.storage.cleaning import clean_text

    if error is None or error.__traceback__ is None:
        return None
    text = redact(clean_text("".join(traceback.format_exception(error))))
    return text if len(text) <= _TRACEBACK else f"…{text[-_TRACEBACK:]}"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        orig = getattr(current, "orig", None)
        current = orig if isinstance(orig, BaseException) else current.__cause__ or current.__context__
    return chain
