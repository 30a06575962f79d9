"""Logins of bots, made and dropped through the administrator's functions in `botctl_admin`. For `control` only.

`control` has no right over roles itself; each function takes a bot_id and touches only that bot's login.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.scram import random_verifier

CONNECTION_LIMIT = 6
"""Of one bot: 2 × its pool of 2, so that a new incarnation needn't wait for the last one's, and 2 (design §4.2)."""


@dataclass(frozen=True, slots=True)
class Session:
    """One that a bot has now; `bot_id` 0 is the one that asked. `age` in seconds.

    Over a socket the address is empty and the port is negative.
    """

    bot_id: int
    pid: int
    address: str
    port: int
    age: float


async def sessions(connection: AsyncConnection) -> list[Session]:
    """All that bots have, not those of readers."""
    result = await connection.exec_driver_sql("SELECT bot_id, pid, address, port, age FROM botctl_admin.bot_sessions()")
    rows: Sequence[Any] = result.all()
    return [Session(*row) for row in rows]


async def ensure_login(connection: AsyncConnection, bot_id: int, password: str) -> None:
    """The bot can log in with this password, made by `scram.new_password`, and with no other."""
    await connection.exec_driver_sql("SELECT botctl_admin.ensure_bot($1, $2)", (bot_id, CONNECTION_LIMIT))
    await connection.exec_driver_sql(
        "SELECT botctl_admin.set_bot_password($1, $2)", (bot_id, random_verifier(password))
    )


async def mend_logins(connection: AsyncConnection, *, blindly: bool = False) -> list[int]:
    """Put back settings and passwords that bots have changed of their own logins; which bots had.

    Sessions they have opened meanwhile are for `end_sessions`, after this was committed. `blindly` also sets anew
    passwords that the administrator, being no superuser, can't see.
    """
    result = await connection.exec_driver_sql("SELECT botctl_admin.mend_bots($1)", (blindly,))
    return [int(bot_id) for bot_id in result.scalars()]


async def end_sessions(connection: AsyncConnection, bot_id: int) -> int:
    """End the bot's sessions and its readers'; it may log in again at once. Returns how many."""
    return int((await connection.exec_driver_sql("SELECT botctl_admin.terminate_bot($1)", (bot_id,))).scalar_one())


async def drop_login(connection: AsyncConnection, bot_id: int) -> bool:
    """Drop the bot's login and end its sessions; its rows stay. False when it had none."""
    result = await connection.exec_driver_sql("SELECT botctl_admin.drop_bot($1)", (bot_id,))
    return bool(result.scalar_one())


async def open_reader(
    connection: AsyncConnection, bot_id: int, password: str, valid_for: timedelta
) -> tuple[str, float]:
    """A read-only login that sees this bot's rows: its name, and until when it can log in (epoch)."""
    until = datetime.now(UTC) + valid_for
    result = await connection.exec_driver_sql(
        "SELECT botctl_admin.open_reader($1, $2, $3)", (bot_id, random_verifier(password), until)
    )
    return str(result.scalar_one()), until.timestamp()


async def close_readers(connection: AsyncConnection) -> int:
    """Drop readers whose time is over; returns how many."""
    return int((await connection.exec_driver_sql("SELECT botctl_admin.close_readers()")).scalar_one())


async def end_long_transactions(connection: AsyncConnection, longest: timedelta) -> int:
    """End sessions of bots whose transaction is older than this, idle or not; returns how many."""
    result = await connection.exec_driver_sql("SELECT botctl_admin.end_long_transactions($1)", (longest,))
    return int(result.scalar_one())
