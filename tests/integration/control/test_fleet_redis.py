"""The fleet's part of Redis: made later, made again, dropped, and what was lost relayed again."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect as connect_redis
from botctl.bus.events import Event, Log, decode_event, encode_event
from botctl.bus.topology import ROUTER_GROUP, Topology
from botctl.control.assembly import Assembly
from botctl.control.bus.keeper import BusKeeper
from botctl.control.fleet.applied import FleetSource
from botctl.control.ports import FleetSight
from botctl.fleet import Fleet
from botctl.handover import ControlConfig
from botctl.storage.engine import connect
from support.fleet_stage import Stage, SupervisorDouble, bot, eventually, new_ids


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


async def test_a_user_that_somebody_takes_away_is_made_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and its data stay: nothing else tells."""
    monkeypatch.setattr("botctl.control.bus.keeper.USERS_EVERY", 0.0)
    one, barred = bot("one"), bot("barred")
    await stage.apply(one, barred)
    running = asyncio.create_task(stage.bus.run())
    try:

        async def ready() -> bool:
            return stage.bus.problem is None

        await eventually(ready)
        await stage.bus.bar(barred.bot_id)
        await stage.redis.acl_deluser(stage.topology.user(one.bot_id))

        async def back() -> bool:
            return await stage.has_redis_user(one.bot_id)

        await eventually(back)
        assert not await stage.has_redis_user(barred.bot_id)
    finally:
        running.cancel()


async def test_users_of_bots_nobody_wants_are_dropped(stage: Stage) -> None:
    one = bot("one")
    stranger = next(new_ids)
    await stage.redis.acl_setuser(stage.topology.user(stranger), enabled=True, nopass=True)
    await stage.apply(one)
    known = await BusAdmin(stage.redis, stage.topology).known_bots()
    assert one.bot_id in known
    assert stranger not in known


async def test_a_bot_dropped_while_its_user_is_made_has_none(stage: Stage) -> None:
    making, drop = asyncio.Event(), asyncio.Event()

    class Slow(BusAdmin):
        async def ensure_bots(self, *wanted: Any) -> None:
            making.set()
            await drop.wait()
            await super().ensure_bots(*wanted)

    keeper, bot_id = BusKeeper(Slow(stage.redis, stage.topology)), next(new_ids)
    assert await keeper.settle(5.0)
    keeper.set(bot_id, "0" * 64)
    settling = asyncio.create_task(keeper.settle(5.0))
    await making.wait()
    dropping = asyncio.create_task(keeper.drop(bot_id))
    await asyncio.wait([dropping], timeout=0.05)  # long enough for it to be through, if it doesn't wait
    drop.set()
    await asyncio.gather(settling, dropping)
    assert bot_id not in await BusAdmin(stage.redis, stage.topology).known_bots()


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

    async def is_told_of_the_unread() -> bool:
        return assembly.drops.entries == {f"bot:{one.bot_id}": 1}

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
        await redis.xadd(topology.mailbox(one.bot_id), {"e": "unread"}, id=f"{int(time.time() - 7_200) * 1000}-0")
        await assembly.bus_watch.look()
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await eventually(lambda: pending("late"))
        await eventually(is_told_of_the_unread)
        await eventually(told)
        assert await applied() == before
    finally:
        await assembly.close(1.0)
        await assembly.bus.drop(one.bot_id)
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await redis.acl_deluser(topology.user(one.bot_id))
        await redis.aclose()
        await admin.close()


class SilentSupervisor(SupervisorDouble):
    """Doesn't answer before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = asyncio.Event()

    async def sight(self) -> FleetSight:
        await self.speaks.wait()
        return await super().sight()


async def test_what_was_not_routed_yet_waits_until_it_is_known_who_is_to_get_it(
    database: Any, valkey_admin_url: str, tmp_path: Path
) -> None:
    one, reader = bot("publisher"), bot("reader", subscribe=["custom.*"])
    config = ControlConfig(
        database=database.control,
        redis_url=valkey_admin_url,
        namespace=f"t{uuid.uuid4().hex[:8]}",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
        fleet=msgspec.Raw(Fleet(bots=(one, reader)).model_dump_json().encode()),
    )
    topology, redis = Topology(config.namespace), connect_redis(valkey_admin_url)
    await redis.xgroup_create(topology.out(one.bot_id), ROUTER_GROUP, "0", mkstream=True)
    await redis.xadd(
        topology.out(one.bot_id), {"e": encode_event(Event(id="left", type="custom.tick", occurred_at=1.0))}
    )
    supervisor = SilentSupervisor()
    assembly = Assembly(config, supervisor)
    assembly.start()

    async def ready() -> bool:
        return assembly.bus.problem is None

    async def delivered() -> bool:
        return [decode_event(fields[b"e"]).id for _, fields in await redis.xrange(topology.mailbox(reader.bot_id))] == [
            "left"
        ]

    try:
        await eventually(ready)
        supervisor.speaks.set()
        await eventually(delivered)
    finally:
        await assembly.close(1.0)
        for each in (one, reader):
            await assembly.bus.drop(each.bot_id)
            await redis.acl_deluser(topology.user(each.bot_id))
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await redis.aclose()


@pytest.mark.parametrize("how", ["trimmed", "unusable", "deleted"])
async def test_what_a_bot_has_cut_off_its_own_stream_is_relayed_again(
    database: Any, valkey_admin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its stream serves again, its rows go back to its relay, another bot's don't; metric, log and rules hear of it."""
    monkeypatch.setattr("botctl.bus.routing.router._TIDY_EVERY", 0.5)  # Only the janitor misses a deleted stream.
    config = ControlConfig(
        database=database.control,
        redis_url=valkey_admin_url,
        namespace=f"t{uuid.uuid4().hex[:8]}",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
    )
    one, other = bot("cutter"), bot("bystander")
    topology = Topology(config.namespace)
    redis, admin = connect_redis(valkey_admin_url), await connect(database.admin)
    assembly = Assembly(config, SupervisorDouble())
    stats, out = assembly.router.stats, topology.out(one.bot_id)
    told: list[str] = []
    assembly.router.complaints.on_rejected = lambda rejected: told.append(rejected.reason)
    assembly.start()
    body = encode_event(Event(id="x", type="custom.tick", occurred_at=1.0))

    async def pending() -> set[int]:
        rows = await admin.fetch(
            "SELECT DISTINCT bot_id FROM outbox WHERE bot_id = ANY ($1::bigint[]) AND relayed_at IS NULL",
            [one.bot_id, other.bot_id],
        )
        return {row["bot_id"] for row in rows}

    async def known() -> bool:
        return assembly.router.janitor.outs.losses.knows(one.bot_id)

    async def flowing() -> bool:
        return stats.routed == routed + 1

    async def again() -> bool:
        return await pending() == {one.bot_id}

    try:
        await assembly.keeper.apply(Fleet(bots=(one, other)), FleetSource())
        await eventually(known)
        for each in (one, other):
            await admin.execute(
                "INSERT INTO outbox (bot_id, event_id, type, relayed_at) VALUES ($1, 'e', 'custom.tick', now())",
                each.bot_id,
            )
        if how == "deleted":
            await redis.delete(out)
        else:
            brick = "18446744073709551615-18446744073709551615" if how == "unusable" else "*"
            await redis.execute_command("XADD", out, "MAXLEN", "0", brick, "e", body)
        await eventually(again)
        routed = stats.routed
        await redis.xadd(out, {"e": body})
        await eventually(flowing)
        assert (stats.vanished, stats.replaced_streams) == {
            "trimmed": (1, 0), "unusable": (1, 1), "deleted": (0, 0)
        }[how]  # fmt: skip
        assert any("cut before it was routed" in reason for reason in told)
    finally:
        await assembly.close(1.0)
        for each in (one, other):
            await assembly.bus.drop(each.bot_id)
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{config.namespace}:*")])
        await redis.aclose()
        await admin.close()
