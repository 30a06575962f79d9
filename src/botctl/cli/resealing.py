"""`secrets reseal`: with the administrator's login and the master key, both of which only the operator has.

Resumable: whatever ends it, the same command goes on. Shows no key.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.cli.database import admin_url
from botctl.cli.shared import say
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
from botctl.errors import BotctlError, VaultError
from botctl.security import master_keys
from botctl.security.master_keys import MasterKeys
from botctl.security.vault import Cipher, key_id_of, unwrap
from botctl.storage import audit, secrets
from botctl.storage.engine import login_engine
from botctl.storage.resealing import Resealer
from botctl.storage.sealing import Sealing
from botctl.storage.url import parse_database_url

RETIRED_FOR = 600.0
"""Seconds after which nobody can still be about to store what an old key has sealed: a bot that hangs is ended long
before, and so is a transaction that does nothing."""

_PASSES = 20


def reseal(name: str, bot_id: int, root: Path, data_dir: Path | None) -> None:
    """Do it and say what was done. Raises BotctlError."""
    found = master_keys.find(os.environ, root)
    if found is None:
        raise VaultError(
            "the master key is not here", hint="Run this where the daemon's master key is: same user, same environment."
        )
    url = admin_url(data_dir)

    async def work() -> None:
        engine = login_engine(parse_database_url(url), pool_size=1, application_name="botctl reseal")
        try:
            await _reseal(engine, name, bot_id, found.keys)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        finally:
            await engine.dispose()

    asyncio.run(work())


async def _reseal(engine: AsyncEngine, name: str, bot_id: int, masters: MasterKeys) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL ROLE botctl_owner")
        rows = [row for row in await secrets.read_keys(connection) if row.bot_id == bot_id]
    if not rows:
        raise VaultError(f"{name} has no data key")
    cipher = Cipher(bot_id, [unwrap(masters, bot_id, row.key_id, row.wrapped) for row in rows])
    newest = cipher.newest
    resealer = Resealer(engine, bot_id, Sealing(cipher, seals=True), lambda sealed: key_id_of(sealed) != newest)
    total, faults, left = 0, [], 0
    for _ in range(_PASSES):
        done = await resealer.run()
        total, faults = total + done.rows, done.faults
        left = await resealer.left()
        if left <= len(faults):
            break
    dropped: list[int] = []
    async with engine.begin() as connection:
        if not left:
            await connection.exec_driver_sql("SET LOCAL ROLE botctl_owner")
            dropped = await secrets.drop_keys(connection, bot_id, newest, RETIRED_FOR)
            await connection.exec_driver_sql("RESET ROLE")
        told = {"number": newest, "rows": total, "left": left, "dropped": dropped}
        await audit.record(connection, bot_id, "secrets.resealed", "bot_keys", after=told)
    say(f"{name}: {total} rows sealed anew with data key {newest}")
    if faults:
        raise BotctlError(f"{len(faults)} rows can't be opened, and older keys are kept: {faults[0]}")
    if left:
        raise BotctlError(f"{left} rows are still sealed with older keys", hint="Run it again.")
    if dropped:
        say(f"data keys forgotten: {', '.join(str(one) for one in dropped)}")
    elif len(rows) > 1:
        say("older keys seal nothing any more; run it again in ten minutes to have them forgotten")
