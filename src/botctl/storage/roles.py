"""The logins of bots, made and ended through the administrator's functions, over a connection of `control`.

Each function runs in the caller's transaction unless it says otherwise. Passwords go over as verifiers only.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage import scram


async def ensure_bot(connection: AsyncConnection, bot_id: int, connection_limit: int) -> bool:
    """Make the bot's login, or set it right again: LOGIN, its limit, its settings. True when it is new.

    A login that belongs to another database raises ProgrammingError with sqlstate 42501.
    """
    return bool(await _call(connection, "ensure_bot($1, $2)", bot_id, connection_limit))


async def set_bot_password(connection: AsyncConnection, bot_id: int, password: str) -> None:
    """Give the bot's login a password made by `scram.new_password`."""
    await _call(connection, "set_bot_password($1, $2)", bot_id, scram.random_verifier(password))


async def suspend_bot(engine: AsyncEngine, bot_id: int) -> int:
    """Take the bot's right to log in, then end its sessions; two transactions, so that none slips in between.

    Returns how many sessions were ended.
    """
    async with engine.begin() as connection:
        await _call(connection, "suspend_bot($1)", bot_id)
    async with engine.begin() as connection:
        return await terminate_bot(connection, bot_id)


async def terminate_bot(connection: AsyncConnection, bot_id: int) -> int:
    """End every session of the bot and of its readers."""
    return int(str(await _call(connection, "terminate_bot($1)", bot_id)))


async def drop_bot(engine: AsyncEngine, bot_id: int) -> bool:
    """Suspend and drop the bot's login; its data stays. False when there was none, or something elsewhere needs it."""
    await suspend_bot(engine, bot_id)
    async with engine.begin() as connection:
        return bool(await _call(connection, "drop_bot($1)", bot_id))


async def end_long_transactions(connection: AsyncConnection, longest: timedelta) -> int:
    """End the sessions of bots whose transaction is older than `longest`, idle ones included."""
    return int(str(await _call(connection, "end_long_transactions($1)", longest)))


async def open_reader(connection: AsyncConnection, bot_id: int, password: str, valid_until: datetime) -> str:
    """A read-only login with that bot's view of the data; its name. `valid_until` is a day ahead at most."""
    return str(await _call(connection, "open_reader($1, $2, $3)", bot_id, scram.verifier(password), valid_until))


async def close_readers(connection: AsyncConnection, *, all_of_them: bool = False) -> int:
    """Drop the readers whose time is over, or all of them; their sessions end."""
    return int(str(await _call(connection, "close_readers($1)", all_of_them)))


async def _call(connection: AsyncConnection, call: str, *arguments: object) -> object:
    result = await connection.exec_driver_sql(f"SELECT botctl_admin.{call}", arguments)
    return result.scalar_one()
