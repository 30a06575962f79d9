"""Telling what is wrong with the database, in words for an operator. Never shows a password or a statement's values."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from botctl.errors import BotctlError

DATABASE_TROUBLE = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What any use of the database may raise."""

_DATA_CLASSES = ("22", "23", "54")
"""SQLSTATE classes of statements that fail however often they are repeated: bad data, broken constraint, more than the
server can take in."""


class DatabaseAwayError(BotctlError):
    """The database does not do what is asked of it now; nothing was changed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"the database can't be used: {database_reason(error)}",
            hint="Nothing was changed. `botctl status` shows when it is back; `botctl logs control` says more.",
        )


DISK_FULL = "53100"
"""SQLSTATE: the server found no room to write."""


def database_reason(error: BaseException) -> str:
    """One line."""
    cause: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig
    if isinstance(cause, OSError | TimeoutError):
        return "not reachable" if not isinstance(cause, TimeoutError) else "no answer in time"
    text = str(cause).splitlines()[0].strip() if str(cause) else type(cause).__name__
    if getattr(cause, "sqlstate", None) == DISK_FULL:
        text = f"its disk is full: {text}"
    return text[:300]


def is_hopeless(error: BaseException) -> bool:
    """Whether repeating the statement can't help: the data itself is refused."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return isinstance(state, str) and state[:2] in _DATA_CLASSES
