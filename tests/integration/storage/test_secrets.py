"""Wrapped keys and sealed secrets in the real database: what control may do with them, and bots may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.storage import secrets
from botctl.storage.engine import connect
from botctl.storage.secrets import SealedSecret, WrappedKey

ALICE, BOB = 4001, 4002


def key(bot_id: int, key_id: int, version: int = 1) -> WrappedKey:
    return WrappedKey(bot_id, key_id, version, f"check {version}", f"wrapped {key_id} by {version}".encode())


async def test_keys_and_secrets_come_back_as_they_were_given(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await secrets.add_keys(connection, [key(ALICE, 1), key(ALICE, 2), key(BOB, 1)])
        await secrets.add_keys(connection, [])
        await secrets.retire_keys(connection, ALICE, 2)
        await secrets.save_secret(connection, SealedSecret(ALICE, "token", 1, b"first"))
        await secrets.save_secret(connection, SealedSecret(ALICE, "token", 2, b"second"))
    async with engine.connect() as connection:
        found = [one for one in await secrets.read_keys(connection) if one.bot_id in (ALICE, BOB)]
        assert [replace(one, created_at=0.0, retired_at=None) for one in found] == [
            *(key(ALICE, 1), key(ALICE, 2), key(BOB, 1))
        ]
        assert [one.retired_at is not None for one in found] == [True, False, False]
        (secret,) = await secrets.read_secrets(connection, ALICE)
        assert replace(secret, set_at=0.0) == SealedSecret(ALICE, "token", 2, b"second")
        assert await secrets.read_secrets(connection, BOB) == []
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await secrets.add_keys(connection, [key(BOB, 1)])


async def test_a_key_is_rewrapped_once(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await secrets.add_keys(connection, [key(4011, 1), key(4011, 2)])
        assert await secrets.rewrap(connection, [key(4011, 1, 2), key(4011, 2, 2)], 1) == 2
        assert await secrets.rewrap(connection, [key(4011, 1, 3)], 1) == 0
        found = {one.key_id: one for one in await secrets.read_keys(connection) if one.bot_id == 4011}
    assert (found[1].master_version, found[1].wrapped) == (2, b"wrapped 1 by 2")


@pytest.mark.parametrize("table", ["bot_keys", "bot_secrets"])
async def test_a_bot_reads_and_writes_none_of_it(database: Any, table: str) -> None:
    bot = await connect(await database.add_bot(ALICE))
    try:
        for statement in (
            f"SELECT * FROM {table}",
            f"SELECT count(*) FROM {table}",
            f"INSERT INTO {table} (bot_id, key_id) VALUES ({ALICE}, 9)",
            f"UPDATE {table} SET key_id = 9",
            f"DELETE FROM {table}",
            f"SELECT * FROM botctl_internal.{table}_00",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await bot.execute(statement)
    finally:
        await bot.close()


async def test_control_changes_no_identity_and_deletes_nothing(database: Any) -> None:
    control = await connect(database.control)
    try:
        for statement in (
            "UPDATE bot_keys SET bot_id = 1",
            "UPDATE bot_keys SET key_id = 1",
            "UPDATE bot_secrets SET bot_id = 1",
            "UPDATE bot_secrets SET name = 'x'",
            "DELETE FROM bot_keys",
            "DELETE FROM bot_secrets",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await control.execute(statement)
    finally:
        await control.close()
