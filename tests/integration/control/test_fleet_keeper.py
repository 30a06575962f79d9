"""Applying fleets against real servers, with a double in the supervisor's place."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bus.admin import BusAdmin
from botctl.bus.client import connect as connect_redis
from botctl.bus.events import Log, decode_event
from botctl.bus.topology import Topology
from botctl.control import bus_keeper
from botctl.control.assembly import Assembly
from botctl.control.bus_keeper import BusKeeper
from botctl.control.fleet_keeper import FleetKeeper, FleetSource
from botctl.control.ports import BotSight, FleetSight, Passwords, Transition, WantedFleet
from botctl.control.recorder import Recorder
from botctl.control.trouble import DatabaseAwayError
from botctl.control.wanted import Surroundings, without_userinfo
from botctl.errors import InvalidFileError
from botctl.fleet import BotSpec, Fleet
from botctl.handover import ControlConfig, DatabaseLogin, DatabaseTarget
from botctl.storage import logins
from botctl.storage.engine import connect, login_engine
from botctl.storage.runs import recent_runs

NOWHERE = DatabaseTarget(host="127.0.0.1", port=1)


class SupervisorDouble:
    """Takes what is wanted; shows the bots it was last told of, and `lingering` ones still ending."""

    def __init__(self) -> None:
        self.desired: list[WantedFleet] = []
        self.rotated: list[tuple[int, Passwords]] = []
        self.acknowledged: list[int] = []
        self.commands: list[tuple[str, str]] = []
        self.lingering: set[int] = set()

    def desire(self, fleet: WantedFleet) -> None:
        self.desired.append(fleet)

    def rotate(self, bot_id: int, passwords: Passwords) -> None:
        self.rotated.append((bot_id, passwords))

    def recorded(self, seq: int) -> None:
        self.acknowledged.append(seq)

    def hear(self, bot_id: int, deaf: bool, reason: str = "") -> None:
        pass

    async def sight(self) -> FleetSight:
        bots = {bot.bot_id: bot.name for bot in self.desired[-1].bots} if self.desired else {}
        bots |= dict.fromkeys(self.lingering, "leaving")
        seen = tuple(BotSight(name=name, bot_id=bot_id, state="running") for bot_id, name in bots.items())
        return FleetSight(pid=1, state="running", started_at=time.time(), generation=0, bots=seen)

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        self.commands.append((verb, name))
        return True, ""

    @property
    def passwords(self) -> dict[int, Passwords]:
        return {bot.bot_id: bot.passwords for fleet in self.desired for bot in fleet.bots if bot.passwords is not None}


_numbers = iter(range(41_000, 60_000))


def bot(name: str, number: int | None = None, **more: Any) -> BotSpec:
    return BotSpec.model_validate({"name": name, "token": f"{number or next(_numbers)}:abc", **more})


def around(target: DatabaseTarget, redis_url: str) -> Surroundings:
    return Surroundings(target, without_userinfo(redis_url), "botctl", "https://telegram", "", "", "json")


async def eventually(condition: Callable[[], Awaitable[bool]], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


class Stage:
    """One control's keepers over one database and one namespace."""

    def __init__(self, login: DatabaseLogin, redis_url: str, namespace: str) -> None:
        self.login = login
        self.redis_url = redis_url
        self.topology = Topology(namespace)
        self.engine: AsyncEngine = login_engine(login)
        self.redis: Redis = connect_redis(redis_url)
        self.bus = BusKeeper(BusAdmin(self.redis, self.topology))
        self.supervisor = SupervisorDouble()
        self.keeper = FleetKeeper(self.engine, self.bus, self.supervisor, around(login.target, redis_url))

    async def apply(self, *bots: BotSpec) -> Any:
        return await self.keeper.apply(Fleet(bots=bots), FleetSource())

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.exec_driver_sql(sql)]

    async def can_log_in(self, bot_id: int) -> bool:
        passwords = self.supervisor.passwords[bot_id]
        try:
            connection = await connect(
                DatabaseLogin(target=self.login.target, user=f"bot_{bot_id}", password=passwords.database)
            )
        except Exception:
            return False
        await connection.close()
        return True

    async def has_redis_user(self, bot_id: int, passwords: Passwords | None = None) -> bool:
        passwords = passwords or self.supervisor.passwords[bot_id]
        user = self.topology.user(bot_id)
        client = connect_redis(without_userinfo(self.redis_url), username=user, passwords=lambda: (passwords.redis,))
        try:
            return bool(await client.ping())
        except AuthenticationError:
            return False
        finally:
            await client.aclose()

    async def close(self) -> None:
        await self.redis.aclose()
        await self.engine.dispose()


@pytest.fixture
async def stage(database: Any, valkey_admin_url: str) -> AsyncIterator[Stage]:
    made = Stage(database.control, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        for bot_id in list(made.bus.hashes):
            await made.bus.drop(bot_id)
        await made.close()


async def test_a_new_fleet_gets_rows_logins_and_users_and_reaches_the_supervisor(stage: Stage) -> None:
    one, two = bot("one", subscribe=["bot.*"]), bot("two")
    applied = await stage.apply(one, two)
    assert (applied.added, applied.failed) == (["one", "two"], {})
    (desired,) = stage.supervisor.desired
    assert [wanted.name for wanted in desired.bots] == ["one", "two"]
    for spec in (one, two):
        assert await stage.can_log_in(spec.bot_id)
        assert await stage.has_redis_user(spec.bot_id)
    assert stage.keeper.subscribers() == {one.bot_id: ("bot.*",), two.bot_id: ()}
    found = await stage.rows(f"SELECT name, removed_at FROM bots WHERE bot_id IN ({one.bot_id}, {two.bot_id})")
    assert sorted(found) == [("one", None), ("two", None)]


async def test_applying_again_hands_out_no_new_credentials_and_changes_no_digest(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    applied = await stage.apply(one)
    assert applied.unchanged == ["one"]
    first, second = stage.supervisor.desired
    assert second.bots[0].passwords is None
    assert second.bots[0].digest == first.bots[0].digest
    assert second.generation > first.generation
    assert await stage.can_log_in(one.bot_id)


async def test_a_change_of_what_is_live_keeps_the_digest_and_sends_the_new_value(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    applied = await stage.apply(bot("one", one.bot_id, log_level="debug"))
    assert applied.changed == ["one"]
    first, second = (fleet.bots[0] for fleet in stage.supervisor.desired)
    assert second.digest == first.digest
    assert second.live == {"log_level": "DEBUG", "concurrent_chats": 32, "attempts": 5}


async def test_a_removed_bot_keeps_its_row_and_loses_its_login_once_it_has_ended(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    await stage.apply(one, two)
    stage.supervisor.lingering = {two.bot_id}
    running = asyncio.create_task(stage.keeper.run())
    try:
        await stage.apply(one)
        assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["one"]
        assert await stage.can_log_in(two.bot_id), "it may still be draining"
        assert two.bot_id in stage.keeper.subscribers(), "what it still publishes is routed"
        stage.supervisor.lingering = set()

        async def gone() -> bool:
            return not await stage.can_log_in(two.bot_id) and not await stage.has_redis_user(two.bot_id)

        await eventually(gone)
    finally:
        running.cancel()
    assert await stage.can_log_in(one.bot_id)
    (row,) = await stage.rows(f"SELECT name, removed_at IS NOT NULL FROM bots WHERE bot_id = {two.bot_id}")
    assert row == ("two", True)


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


async def test_a_dry_run_tells_and_does_nothing(stage: Stage) -> None:
    one = bot("one")
    told = await stage.keeper.apply(Fleet(bots=(one,)), FleetSource(), dry_run=True)
    assert (told.dry_run, told.added) == (True, ["one"])
    assert stage.supervisor.desired == []
    assert await stage.rows(f"SELECT 1 FROM bots WHERE bot_id = {one.bot_id}") == []


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
    monkeypatch.setattr(bus_keeper, "PREVIOUS_FOR", 0.0)
    stage.bus.set(one.bot_id, sha256(new.redis.encode()).hexdigest(), sha256(old.redis.encode()).hexdigest())
    assert await stage.bus.settle(5.0)
    assert await stage.has_redis_user(one.bot_id)
    assert not await stage.has_redis_user(one.bot_id, old)


async def test_with_the_database_away_nothing_is_changed_and_the_error_says_so(valkey_admin_url: str) -> None:
    away = DatabaseLogin(target=NOWHERE, user="nobody", password="secret")
    stage = Stage(away, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    try:
        with pytest.raises(DatabaseAwayError) as caught:
            await stage.apply(bot("one"))
        assert "secret" not in str(caught.value)
        assert stage.keeper.fleet is None
        assert stage.supervisor.desired == []
    finally:
        await stage.close()


async def test_with_redis_away_bots_are_started_and_their_users_made_later(
    database: Any, valkey_admin_url: str
) -> None:
    stage = Stage(database.control, "redis://127.0.0.1:1/0", f"t{uuid.uuid4().hex[:8]}")
    one = bot("one")
    try:
        applied = await stage.apply(one)
        assert applied.failed == {}
        assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["one"]
        assert stage.bus.problem is not None
    finally:
        await stage.close()


async def test_redis_that_lost_everything_gets_its_users_again(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    running = asyncio.create_task(stage.bus.run())
    try:

        async def ready() -> bool:
            return stage.bus.problem is None

        await eventually(ready)
        await stage.redis.acl_deluser(stage.topology.user(one.bot_id))
        await stage.redis.delete(stage.topology.marker, stage.topology.mailbox(one.bot_id))

        async def back() -> bool:
            return await stage.has_redis_user(one.bot_id) and bool(
                await stage.redis.exists(stage.topology.mailbox(one.bot_id))
            )

        await eventually(back)
    finally:
        running.cancel()


async def test_users_of_bots_nobody_wants_are_dropped(stage: Stage) -> None:
    one = bot("one")
    stranger = next(_numbers)
    await stage.redis.acl_setuser(stage.topology.user(stranger), enabled=True, nopass=True)
    await stage.apply(one)
    known = await BusAdmin(stage.redis, stage.topology).known_bots()
    assert one.bot_id in known
    assert stranger not in known


async def test_a_reload_reads_the_file_again_with_the_variables_given(stage: Stage, tmp_path: Path) -> None:
    number = next(_numbers)
    file = tmp_path / "fleet.yaml"
    file.write_text("bots:\n  - name: one\n    token: ${TOKEN}\n")
    source = FleetSource(str(file), {"TOKEN": f"{number}:abc"})
    await stage.keeper.apply(Fleet(), source)
    assert (await stage.keeper.reload()).added == ["one"]
    file.write_text("bots:\n  - name: one\n    token: ${OTHER}\n")
    with pytest.raises(InvalidFileError, match="OTHER"):
        await stage.keeper.reload()
    assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["one"]
    assert len(stage.supervisor.desired) == 2


async def test_concurrent_applies_end_as_one_of_them(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    await asyncio.gather(stage.apply(one), stage.apply(two), stage.apply(one, two))
    wanted = {spec.name for spec in stage.keeper.fleet.bots} if stage.keeper.fleet else set()
    assert {wanted_bot.name for wanted_bot in stage.supervisor.desired[-1].bots} == wanted
    generations = [fleet.generation for fleet in stage.supervisor.desired]
    assert generations == sorted(set(generations))


def transition(seq: int, from_state: str, to_state: str, **more: Any) -> Transition:
    given: dict[str, Any] = {"at": 1_700_000_000.0 + seq, "name": "one", "incarnation": 1, "reason": ""}
    return Transition(seq=seq, from_state=from_state, to_state=to_state, **(given | more))


async def test_a_life_is_recorded_once_however_often_it_is_told(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    life = [
        transition(1, "configured", "starting", bot_id=one.bot_id),
        transition(2, "starting", "running", bot_id=one.bot_id, pid=77),
        transition(3, "running", "backoff", bot_id=one.bot_id, pid=77, exit="signal 9", failure="signal", duration=1.5),
        transition(4, "backoff", "starting", bot_id=one.bot_id, incarnation=2),
        transition(5, "starting", "running", bot_id=one.bot_id, incarnation=2, pid=78),
        transition(6, "running", "stopping", bot_id=one.bot_id, incarnation=2, pid=78),
        transition(7, "stopping", "starting", bot_id=one.bot_id, incarnation=2, pid=78, exit="exit 0"),
        transition(8, "starting", "running", bot_id=one.bot_id, incarnation=3, pid=79),
    ]
    woken: list[int] = []
    for _ in range(2):
        recorder = Recorder(stage.engine, stage.supervisor, lambda: woken.append(1))
        for one_transition in life:
            recorder.take(one_transition)
        await recorder.write()
    assert stage.supervisor.acknowledged == [8, 8]
    assert woken
    async with stage.engine.connect() as connection:
        runs = await recent_runs(connection, one.bot_id, 10)
    assert [(run.incarnation, run.pid, run.exit, run.failure) for run in runs] == [
        (3, 79, None, None), (2, 78, "exit 0", None), (1, 77, "signal 9", "signal"),
    ]  # fmt: skip
    assert all(run.ready_at is not None for run in runs)
    told = await stage.rows(
        f"SELECT type FROM outbox WHERE bot_id = 0 AND data->>'bot_id' = '{one.bot_id}' ORDER BY seq"
    )
    assert [row[0] for row in told] == [
        "bot.started", "bot.ready", "bot.failed", "bot.started", "bot.ready", "bot.started", "bot.ready",
    ]  # fmt: skip


async def test_an_assembly_lives_and_answers_with_neither_server(tmp_path: Path) -> None:
    config = ControlConfig(
        database=DatabaseLogin(target=NOWHERE, user="nobody", password="secret"),
        redis_url="redis://127.0.0.1:1/0",
        namespace="botctl",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
    )
    assembly = Assembly(config, SupervisorDouble())
    assembly.start()
    try:

        async def told() -> bool:
            return {problem.split(":")[0] for problem in assembly.problems()} == {"database", "redis is not reachable"}

        await eventually(told)
        assert (await assembly.service.status()).daemon.pid == 1
        assert not (await assembly.service.health()).ok
        assert b"botctl_build_info" in await assembly.service.metrics()
    finally:
        await assembly.close(1.0)


async def test_what_an_emptied_redis_has_lost_is_relayed_again(
    database: Any, valkey_admin_url: str, tmp_path: Path
) -> None:
    config = ControlConfig(
        database=database.control,
        redis_url=valkey_admin_url,
        namespace=f"t{uuid.uuid4().hex[:8]}",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
    )
    one = bot("phoenix")
    topology = Topology(config.namespace)
    redis, admin = connect_redis(valkey_admin_url), await connect(database.admin)
    assembly = Assembly(config, SupervisorDouble())
    assembly.start()

    async def applied() -> list[str]:
        events = [decode_event(fields[b"e"]) for _, fields in await redis.xrange(topology.log(Log.SYSTEM))]
        return [event.id for event in events if event.data.get("added") == ["phoenix"]]

    async def told() -> bool:
        return len(await applied()) == 1

    async def pending(*event_ids: str) -> bool:
        rows = await admin.fetch("SELECT event_id FROM outbox WHERE bot_id = $1 AND relayed_at IS NULL", one.bot_id)
        return {row["event_id"] for row in rows} == set(event_ids)

    try:
        await assembly.keeper.apply(Fleet(bots=(one,)), FleetSource())
        await eventually(told)
        before = await applied()
        await admin.execute(
            "INSERT INTO outbox (bot_id, event_id, type, relayed_at) VALUES"
            " ($1, 'late', 'custom.tick', now() - interval '59 minutes'),"
            " ($1, 'old', 'custom.tick', now() - interval '61 minutes')",
            one.bot_id,
        )
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await eventually(lambda: pending("late"))
        await eventually(told)
        assert await applied() == before
    finally:
        await assembly.close(1.0)
        await assembly.bus.drop(one.bot_id)
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await redis.acl_deluser(topology.user(one.bot_id))
        await redis.aclose()
        await admin.close()


async def test_a_restarted_redis_may_have_lost_its_last_seconds_only(stage: Stage) -> None:
    told: list[float] = []
    run = ["a:data"]

    class Admin(BusAdmin):
        async def run_id(self) -> str:
            return run[0]

    keeper = BusKeeper(Admin(stage.redis, stage.topology), on_lost=told.append)
    keeper.load({})
    assert await keeper.settle(5.0)
    run[0] = "b:data"
    assert await keeper.settle(5.0)
    assert await keeper.settle(5.0)
    (seconds,) = told
    assert 5.0 <= seconds < 10.0
    run[0] = "b:-"
    assert await keeper.settle(5.0)
    assert told[1:] == [3600.0]
