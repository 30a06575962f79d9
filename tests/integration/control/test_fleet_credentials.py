"""Credentials of bots against real servers: kept, made anew, and never taken before there are others."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.control.bus import previous
from botctl.control.ports import Passwords
from botctl.fleet import Fleet
from botctl.storage import logins
from botctl.storage.engine import connect
from support.fleet_stage import Stage, bot, eventually


async def test_a_bot_that_comes_back_gets_new_credentials_over_its_old_row(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    running = asyncio.create_task(stage.keeper.run())
    try:
        await stage.apply(one, two)
        before = stage.supervisor.passwords[two.bot_id]
        await stage.apply(one)
        await stage.apply(one, two)
        after = stage.supervisor.passwords[two.bot_id]
        assert after.generation > before.generation
        assert await stage.can_log_in(two.bot_id)
        assert await stage.has_redis_user(two.bot_id)
    finally:
        running.cancel()


async def test_a_foreign_role_fails_its_own_bot_only_and_is_tried_again(stage: Stage, database: Any) -> None:
    good, bad = bot("good"), bot("bad")
    admin = await connect(database.admin)
    await admin.execute(f"CREATE ROLE bot_{bad.bot_id} LOGIN")
    running = asyncio.create_task(stage.keeper.run())
    try:
        applied = await stage.apply(good, bad)
        assert list(applied.failed) == ["bad"]
        assert "does not belong to this database" in applied.failed["bad"]
        assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["good"]
        await admin.execute(f"DROP ROLE bot_{bad.bot_id}")

        async def wanted() -> bool:
            return [one.name for one in stage.supervisor.desired[-1].bots] == ["good", "bad"]

        await eventually(wanted)
        assert stage.keeper.failed == {}
        assert await stage.can_log_in(bad.bot_id)
    finally:
        running.cancel()
        await admin.execute(f"DROP OWNED BY bot_{bad.bot_id}; DROP ROLE IF EXISTS bot_{bad.bot_id}")
        await admin.close()


async def test_a_new_control_resumes_and_touches_nothing(stage: Stage, database: Any, valkey_admin_url: str) -> None:
    one = bot("one")
    await stage.apply(one)
    note, passwords = stage.supervisor.desired[-1].applied, stage.supervisor.passwords
    successor = Stage(database.control, valkey_admin_url, stage.topology.namespace)
    running = asyncio.create_task(successor.keeper.run())
    try:
        successor.keeper.resume(note, {one.bot_id: passwords[one.bot_id].generation})

        async def loaded() -> bool:
            return successor.keeper.credentials.loaded

        await eventually(loaded)
        assert successor.keeper.fleet == Fleet(bots=(one,))
        assert successor.supervisor.desired == []
        assert successor.supervisor.rotated == []
        assert await stage.can_log_in(one.bot_id)
        assert await successor.bus.settle(5.0)
        assert await stage.has_redis_user(one.bot_id)
        applied = await successor.apply(one)
        assert applied.unchanged == ["one"]
        assert successor.supervisor.desired[-1].generation > stage.supervisor.desired[-1].generation
    finally:
        running.cancel()
        await successor.close()


async def test_a_supervisor_with_credentials_the_database_does_not_know_gets_new_ones(
    stage: Stage, database: Any, valkey_admin_url: str
) -> None:
    one = bot("one")
    await stage.apply(one)
    successor = Stage(database.control, valkey_admin_url, stage.topology.namespace)
    running = asyncio.create_task(successor.keeper.run())
    try:
        successor.keeper.resume(stage.supervisor.desired[-1].applied, {one.bot_id: 999})

        async def rotated() -> bool:
            return bool(successor.supervisor.rotated)

        await eventually(rotated)
        ((bot_id, passwords),) = successor.supervisor.rotated
        assert bot_id == one.bot_id
        assert successor.supervisor.desired[-1].bots[0].passwords == passwords
        assert await successor.can_log_in(one.bot_id)
    finally:
        running.cancel()
        await successor.close()


async def test_a_running_bot_has_its_new_credentials_before_the_old_ones_end(
    stage: Stage, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bot("one")
    await stage.apply(one)
    old = stage.supervisor.passwords[one.bot_id]
    admin = await connect(database.admin)
    await admin.execute("UPDATE bot_credentials SET generation = generation + 7 WHERE bot_id = $1", one.bot_id)
    await admin.close()
    known_when_altered: list[tuple[Passwords, ...]] = []
    ensure_login = logins.ensure_login

    async def spy(connection: AsyncConnection, bot_id: int, password: str) -> None:
        known_when_altered.append(tuple(given for _, given in stage.supervisor.rotated))
        assert await stage.can_log_in(one.bot_id), "with the old ones"
        await ensure_login(connection, bot_id, password)

    monkeypatch.setattr(logins, "ensure_login", spy)
    await stage.apply(one)
    new = stage.supervisor.passwords[one.bot_id]
    assert known_when_altered == [(new,)]
    assert stage.supervisor.rotated == [(one.bot_id, new)], "told once"
    assert (new.previous_database, new.previous_redis) == (old.database, old.redis)
    assert new.generation > old.generation + 7
    assert await stage.can_log_in(one.bot_id)
    assert await stage.has_redis_user(one.bot_id)
    assert await stage.has_redis_user(one.bot_id, old)
    monkeypatch.setattr(previous, "PREVIOUS_FOR", 0.0)
    stage.bus.set(one.bot_id, sha256(new.redis.encode()).hexdigest(), sha256(old.redis.encode()).hexdigest())
    assert await stage.bus.settle(5.0)
    assert await stage.has_redis_user(one.bot_id)
    assert not await stage.has_redis_user(one.bot_id, old)
