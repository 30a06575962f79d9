"""Credentials rotated while a bot works: no query fails, nothing is lost, and who is due gets new ones by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from botctl.bot.secrets import Passwords as HeldPasswords
from botctl.bus.client import connect as connect_redis
from botctl.control.fleet.wanted import without_userinfo
from botctl.control.ports import Passwords
from botctl.control.secrets.daily_rotation import EVERY, CredentialRotation
from botctl.control.secrets.desk import VaultDesk
from botctl.errors import NoSuchBotError, RefusedError
from botctl.observability.redaction import Redactor
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.quarantines import Quarantined
from support.fleet_stage import Stage, SupervisorDouble, bot, eventually

ROTATIONS = 12


class Delivering(SupervisorDouble):
    """Hands on to a running bot what it is given, as the supervisor's desk does."""

    def __init__(self) -> None:
        super().__init__()
        self.held = HeldPasswords(Redactor())
        self._last: Passwords | None = None

    def begin(self) -> None:
        """A bot's process starts with what was last given for it."""
        (self._last,) = self.passwords.values()
        self._take(self._last)

    def rotate(self, bot_id: int, passwords: Passwords) -> None:
        super().rotate(bot_id, passwords)
        if self._last is not None and not passwords.previous_database:
            passwords = dataclasses.replace(
                passwords, previous_database=self._last.database, previous_redis=self._last.redis
            )
        self._last = passwords
        self._take(passwords)

    def _take(self, given: Passwords) -> None:
        self.held.take(database=(given.database, given.previous_database), redis=(given.redis, given.previous_redis))


class Load:
    """What a bot does all the time, without trying anything twice; `done` counts it, `failed` has what went wrong."""

    def __init__(self, stage: Stage, bot_id: int, held: HeldPasswords) -> None:
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self._bot_id = bot_id
        self._stream = stage.topology.out(bot_id)
        self._inbox = Inbox(bot_id)
        self._held = held
        self._stage = stage
        self._engine = bot_engine(stage.login.target, bot_id, held.database)
        self._fresh = bot_engine(stage.login.target, bot_id, held.database)
        self._redis = self._client()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        works = (self._store, self._reconnect, self._publish, self._publish_anew)
        self._tasks = [asyncio.create_task(self._keep_on(work)) for work in works]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.dispose()
        await self._fresh.dispose()
        await self._redis.aclose()

    async def _keep_on(self, work: Callable[[int], Awaitable[None]]) -> None:
        number = 0
        while True:
            number += 1
            try:
                await asyncio.shield(work(number))
            except Exception as error:
                self.failed.append(f"{work.__name__}: {error!r}")
            else:
                self.done[work.__name__] += 1
            await asyncio.sleep(0)

    async def _store(self, number: int) -> None:
        async with self._engine.begin() as connection:
            await self._inbox.add(connection, [NewRow(f"test:{number}", None, "message", "chat:1", "{}", "")])

    async def _reconnect(self, number: int) -> None:
        async with self._fresh.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT botctl_bot_id()")).scalar_one() == self._bot_id
            await connection.invalidate()

    async def _publish(self, number: int) -> None:
        await self._redis.xadd(self._stream, {"e": str(number)})

    async def _publish_anew(self, number: int) -> None:
        client = self._client()
        try:
            await client.xadd(self._stream, {"e": str(number)})
        finally:
            await client.aclose()

    def _client(self) -> Any:
        return connect_redis(
            without_userinfo(self._stage.redis_url),
            username=self._stage.topology.user(self._bot_id),
            passwords=self._held.redis,
        )


@pytest.fixture
async def busy(stage: Stage) -> tuple[Stage, Delivering, int]:
    """A stage with one bot whose process runs."""
    one = bot("one")
    supervisor = Delivering()
    stage.keeper._supervisor = supervisor
    stage.keeper.credentials._deliver = supervisor.rotate
    stage.supervisor = supervisor
    await stage.apply(one)
    supervisor.begin()
    return stage, supervisor, one.bot_id


async def _under_load(stage: Stage, supervisor: Delivering, bot_id: int, rotate: Callable[[], Awaitable[None]]) -> Load:
    """Rotate again and again while the bot works; every rotation has some work before it."""
    load = Load(stage, bot_id, supervisor.held)
    load.start()
    try:
        for _ in range(ROTATIONS):
            before = load.done.copy()
            deadline = time.monotonic() + 10
            while any(load.done[name] < before[name] + 3 for name in ("_store", "_reconnect", "_publish")):
                assert time.monotonic() < deadline, f"it stands still: {load.failed}"
                await asyncio.sleep(0.005)
            await rotate()
    finally:
        await load.stop()
    return load


async def _nothing_lost(stage: Stage, load: Load, bot_id: int) -> None:
    assert load.failed == []
    stored = await stage.rows(f"SELECT count(*) FROM inbox WHERE bot_id = {bot_id}")
    assert stored[0][0] >= load.done["_store"] > ROTATIONS
    published = await stage.redis.xlen(stage.topology.out(bot_id))
    assert published >= load.done["_publish"] + load.done["_publish_anew"] > ROTATIONS


async def _loaded(stage: Stage) -> None:
    async def loaded() -> bool:
        return stage.keeper.credentials.loaded

    await eventually(loaded)


async def test_no_query_fails_while_credentials_are_rotated(busy: tuple[Stage, Delivering, int]) -> None:
    stage, supervisor, bot_id = busy
    first = supervisor.passwords[bot_id]

    async def rotate() -> None:
        assert await stage.keeper.renew_credentials([bot_id]) == {}

    load = await _under_load(stage, supervisor, bot_id, rotate)
    await _nothing_lost(stage, load, bot_id)
    last = supervisor.passwords[bot_id]
    assert last.generation == first.generation + ROTATIONS
    assert len({given.database for _, given in supervisor.rotated}) == ROTATIONS
    assert await stage.can_log_in(bot_id)
    assert not await stage.has_redis_user(bot_id, first)


async def test_no_query_fails_when_a_new_control_rotates_what_it_has_never_known(
    busy: tuple[Stage, Delivering, int],
) -> None:
    """Each rotation is by a `control` of its own, which knows no password of the bot, only the generation."""
    stage, supervisor, bot_id = busy

    async def rotate() -> None:
        successor = Stage(stage.login, stage.redis_url, stage.topology.namespace)
        successor.keeper._supervisor = supervisor
        successor.keeper.credentials._deliver = supervisor.rotate
        generation = supervisor.passwords[bot_id].generation
        successor.keeper.resume(supervisor.desired[-1].applied, {bot_id: generation})
        running = asyncio.create_task(successor.keeper.run())
        try:
            await _loaded(successor)
            assert await successor.keeper.renew_credentials([bot_id]) == {}
            assert supervisor.passwords[bot_id].generation == generation + 1
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await successor.close()

    load = await _under_load(stage, supervisor, bot_id, rotate)
    await _nothing_lost(stage, load, bot_id)


async def test_credentials_of_a_day_ago_are_rotated_and_others_are_not(stage: Stage) -> None:
    old, young = bot("old"), bot("young")
    await stage.apply(old, young)
    before = dict(stage.supervisor.passwords)
    now = time.time()
    rotation = CredentialRotation(stage.keeper, now=lambda: now)
    assert await rotation.look() == 0
    stored = stage.keeper.credentials._stored
    stored[old.bot_id] = dataclasses.replace(stored[old.bot_id], rotated_at=now - EVERY - 1)
    assert await rotation.look() == 1
    assert stage.supervisor.passwords[old.bot_id].generation == before[old.bot_id].generation + 1
    assert stage.supervisor.passwords[young.bot_id] == before[young.bot_id]
    assert await rotation.look() == 0, "once"
    assert await stage.can_log_in(old.bot_id)


async def test_the_day_is_counted_over_the_life_of_control(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    successor = Stage(stage.login, stage.redis_url, stage.topology.namespace)
    running = asyncio.create_task(successor.keeper.run())
    try:
        generation = stage.supervisor.passwords[one.bot_id].generation
        successor.keeper.resume(stage.supervisor.desired[-1].applied, {one.bot_id: generation})
        await _loaded(successor)
        assert await CredentialRotation(successor.keeper).look() == 0
        assert await CredentialRotation(successor.keeper, now=lambda: time.time() + EVERY).look() == 1
    finally:
        running.cancel()
        await successor.close()


async def test_an_operator_rotates_one_or_all_but_those_in_quarantine(stage: Stage) -> None:
    one, two, bad = bot("one"), bot("two"), bot("bad")
    await stage.apply(one, two, bad)
    stage.keeper.shut[bad.bot_id] = Quarantined(time.time(), "operator", "test")
    before = {bot_id: given.generation for bot_id, given in stage.supervisor.passwords.items()}
    desk = VaultDesk(stage.engine, stage.keeper, None, None, "")  # type: ignore[arg-type]
    assert (await desk.rotate_credentials("one")).message == "one has new passwords for the database and Redis"
    told = (await desk.rotate_credentials("")).message
    assert told == "2 of 3 bots have new passwords for the database and Redis"
    after = {bot_id: given.generation - before[bot_id] for bot_id, given in stage.supervisor.passwords.items()}
    assert after == {one.bot_id: 2, two.bot_id: 1, bad.bot_id: 0}
    with pytest.raises(RefusedError):
        await desk.rotate_credentials("bad")
    with pytest.raises(NoSuchBotError):
        await desk.rotate_credentials("nobody")
