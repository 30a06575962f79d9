"""Shutting a bot away and letting it back, against real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from botctl.bus.client import connect as connect_redis
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.quarantine_file import NAME
from botctl.control.fleet.wanted import without_userinfo
from botctl.handover import DatabaseLogin
from botctl.storage import quarantines
from botctl.storage.engine import connect, login_engine
from support.fleet_stage import NOWHERE, Stage, bot, eventually


@asynccontextmanager
async def kept(stage: Stage, quarantine: Quarantine) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(stage.keeper.run()), asyncio.create_task(quarantine.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def test_everything_of_a_bot_in_the_middle_of_its_work_is_dead_within_a_second(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    quarantine = Quarantine(stage.engine, stage.keeper, stage.supervisor)
    await stage.apply(one, two)
    passwords = stage.supervisor.passwords[one.bot_id]
    login = DatabaseLogin(target=stage.login.target, user=f"bot_{one.bot_id}", password=passwords.database)
    working, idle = await connect(login), await connect(login)
    user = stage.topology.user(one.bot_id)
    redis = connect_redis(without_userinfo(stage.redis_url), username=user, passwords=lambda: (passwords.redis,))
    assert await redis.ping()
    await idle.execute("BEGIN")
    running = asyncio.create_task(working.execute("SELECT pg_sleep(60)"))
    try:
        began = time.monotonic()
        assert await quarantine.shut(one.bot_id, "one", by="operator", reason="a test")
        with pytest.raises(Exception, match=r"terminat|closed"):
            await running
        with pytest.raises(Exception, match=r"terminat|closed"):
            await idle.execute("SELECT 1")
        assert not await stage.can_log_in(one.bot_id)
        assert not await stage.has_redis_user(one.bot_id)
        assert time.monotonic() - began < 1.0
        with pytest.raises(Exception, match=r".*"):
            await redis.ping()
        assert stage.supervisor.commands == [("quarantine", "one")]
        assert await stage.can_log_in(two.bot_id)
        assert await stage.has_redis_user(two.bot_id)
        told = await stage.rows(
            f"SELECT action FROM audit_log WHERE bot_id = {one.bot_id} AND action = 'login.suspended'"
        )
        assert len(told) == 1
    finally:
        await redis.aclose()


async def test_no_later_change_opens_the_door_again(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    quarantine = Quarantine(stage.engine, stage.keeper, stage.supervisor)
    await stage.apply(one)
    await quarantine.shut(one.bot_id, "one", by="operator", reason="a test")
    async with kept(stage, quarantine):
        await stage.apply(one, two)
        await stage.apply(one)
        assert await stage.bus.settle(5.0)
        assert not await stage.can_log_in(one.bot_id)
        assert not await stage.has_redis_user(one.bot_id)


async def test_it_outlives_the_daemon_until_it_is_released(stage: Stage, database: Any, valkey_admin_url: str) -> None:
    one = bot("one")
    await stage.apply(one)
    await Quarantine(stage.engine, stage.keeper, stage.supervisor).shut(
        one.bot_id, "one", by="threat detection", reason="a test"
    )
    later = Stage(database.control, valkey_admin_url, stage.topology.namespace)
    quarantine = Quarantine(later.engine, later.keeper, later.supervisor)
    try:
        async with kept(later, quarantine):
            await later.apply(one)
            assert later.supervisor.desired[-1].bots == ()
            assert later.keeper.shut[one.bot_id].by == "threat detection"
            assert not await stage.has_redis_user(one.bot_id)
            assert not await stage.can_log_in(one.bot_id)
            await quarantine.release(one.bot_id, "one")
            (wanted,) = later.supervisor.desired[-1].bots
            assert wanted.passwords is not None
            assert await later.can_log_in(one.bot_id)
            assert await later.has_redis_user(one.bot_id)
            assert not await stage.can_log_in(one.bot_id), "the credentials it had are still good"
            async with later.engine.connect() as connection:
                assert one.bot_id not in await quarantines.read(connection)
    finally:
        await later.close()


async def test_a_block_ends_by_itself_but_never_shortens_a_quarantine(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    quarantine = Quarantine(stage.engine, stage.keeper, stage.supervisor)
    await stage.apply(one, two)
    await quarantine.shut(two.bot_id, "two", by="operator", reason="for good")
    for spec in (one, two):
        await quarantine.shut(spec.bot_id, spec.name, by="threat detection", reason="for a moment", seconds=0.3)
    async with kept(stage, quarantine):

        async def back() -> bool:
            return ("release", "one") in stage.supervisor.commands

        await eventually(back)
        assert await stage.can_log_in(one.bot_id)
        assert one.bot_id not in stage.keeper.shut
        assert stage.keeper.shut[two.bot_id].reason == "for good"


def away(stage: Stage, file: Path | None = None) -> Quarantine:
    """A quarantine whose database does not answer."""
    engine = login_engine(DatabaseLogin(target=NOWHERE, user="x", password="x"))
    return Quarantine(engine, stage.keeper, stage.supervisor, file=file)


async def test_one_that_the_database_missed_is_completed_by_the_next_control_of_any_daemon(
    stage: Stage, database: Any, valkey_admin_url: str, tmp_path: Path
) -> None:
    one, file = bot("one"), tmp_path / NAME
    await stage.apply(one)
    assert not await away(stage, file).shut(one.bot_id, "one", by="operator", reason="a test")
    assert file.stat().st_mode & 0o777 == 0o600
    assert await stage.can_log_in(one.bot_id)
    later = Stage(database.control, valkey_admin_url, stage.topology.namespace)
    quarantine = Quarantine(later.engine, later.keeper, later.supervisor, file=file)
    try:
        await quarantine.adopt()
        async with kept(later, quarantine):
            await later.apply(one)
            assert later.supervisor.desired[-1].bots == ()

            async def known() -> bool:
                async with later.engine.connect() as connection:
                    told = (await quarantines.read(connection)).get(one.bot_id)
                return told is not None and told.reason == "a test" and not file.exists()

            await eventually(known)
            assert not await stage.can_log_in(one.bot_id)
            assert not await stage.has_redis_user(one.bot_id)
            await quarantine.release(one.bot_id, "one")
            assert await later.can_log_in(one.bot_id)
    finally:
        await later.close()


async def test_one_that_only_the_supervisor_knows_of_is_adopted(
    stage: Stage, database: Any, valkey_admin_url: str, tmp_path: Path
) -> None:
    one, two = bot("one"), bot("two")
    await stage.apply(one, two)
    await Quarantine(stage.engine, stage.keeper, stage.supervisor).shut(
        two.bot_id, "two", by="threat detection", reason="known", seconds=60
    )
    later = Stage(database.control, valkey_admin_url, stage.topology.namespace)
    later.supervisor.shut_away = {one.bot_id: "one", two.bot_id: "two"}
    quarantine = Quarantine(later.engine, later.keeper, later.supervisor, file=tmp_path / NAME)
    try:
        await quarantine.adopt()
        async with kept(later, quarantine):
            await later.apply(one, two)

            async def shut() -> bool:
                return not await stage.can_log_in(one.bot_id) and not await stage.has_redis_user(one.bot_id)

            await eventually(shut)
            async with later.engine.connect() as connection:
                told = await quarantines.read(connection)
            assert told[one.bot_id].reason == "seen"
            assert told[two.bot_id].reason == "known", "the registry knows better why"
            assert told[two.bot_id].until is not None
    finally:
        await later.close()


async def test_a_quarantine_that_can_be_noted_nowhere_is_told(stage: Stage, tmp_path: Path) -> None:
    one = bot("one")
    await stage.apply(one)
    quarantine = away(stage, tmp_path / "missing" / NAME)
    await quarantine.shut(one.bot_id, "one", by="operator", reason="a test")
    assert "can't be written" in (quarantine.problem or "")
