"""Programs outside, from the command line to the lines they read: grants, lags, losses, replays."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from botctl.bus.client import connect as connect_redis
from botctl.bus.events import Event, Log, decode_event, encode_event
from botctl.bus.reading.replay import ReaderStuckError, Replayer
from botctl.bus.topology import FIELD, MAILBOX_GROUP
from botctl.control.bus.desk import ReplayWish
from botctl.errors import UsageError
from support.bus_stage import BusStage, Program, command
from support.fleet_stage import bot, eventually

HASH = "0" * 64


@pytest.fixture
async def desk_stage(database: Any, valkey_admin_url: str) -> AsyncIterator[BusStage]:
    made = BusStage(database.control, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    reading = asyncio.create_task(made.grants.run())
    try:

        async def known() -> bool:
            return made.grants.complete

        await eventually(known)
        await made.bus.settle(5)
        yield made
    finally:
        reading.cancel()
        for grant in list(made.grants.grants):
            await made.desk.revoke(grant)
        for bot_id in list(made.bus.hashes):
            await made.bus.drop(bot_id)
        keys = [key async for key in made.redis.scan_iter(match=f"{made.topology.namespace}:*", count=1000)]
        if keys:
            await made.redis.delete(*keys)
        await made.close()


async def events_of(stage: BusStage, bot_id: int) -> list[Event]:
    """What stands in a mailbox."""
    return [
        decode_event(fields[FIELD.encode()]) for _, fields in await stage.redis.xrange(stage.topology.mailbox(bot_id))
    ]


async def test_a_granted_program_reads_with_the_lines_that_were_printed(desk_stage: BusStage, tmp_path: Path) -> None:
    stage = desk_stage
    async with stage.served(tmp_path):
        await stage.put(Log.BOT, "shop.paid", n=1)
        made = await command(tmp_path, "events", "grant", "crm", "--log", "bot", "--log", "user")
        assert made.exit_code == 0, made.output
        password = re.search(r"^password +(\S+)$", made.stdout, re.M)
        assert password is not None
        text = made.stdout[made.stdout.index("# pip install redis") :]
        for secret in (password[1], stage.redis_url):
            assert secret not in text
        program = Program(text, tmp_path, BOTCTL_EVENTS_PASSWORD=password[1])
        try:
            ids = [await stage.put(Log.BOT, "shop.paid", n=2), await stage.put(Log.USER, "message.sent", n=3)]
            lines = await program.lines(2)
        finally:
            program.end()
        assert sorted(line.split()[1] for line in lines) == sorted(ids)
        assert '"n":2' in "".join(lines)

        shown = json.loads((await command(tmp_path, "events", "grants", "--json")).stdout)[0]
        assert (shown["name"], shown["logs"], shown["made"]) == ("crm", ["bot", "user"], True)
        assert [(one["log"], one["unread"]) for one in shown["readers"]] == [("bot", 0), ("user", 0)]
        rows = await stage.rows("SELECT password_sha256, group_key FROM bus_grants WHERE name = 'crm'")
        audited = await stage.rows(
            "SELECT after::text FROM audit_log WHERE entity = 'bus_grants' AND after ->> 'name' = 'crm'"
        )
        assert len(audited) == 1
        for told in (str(audited), str(stage.notes.taken), str(shown | {"group": ""})):
            assert not any(secret in told for secret in (password[1], *rows[0]))
        assert ("command.events-grant", "fleet", None) in [one[:3] for one in stage.notes.taken]

        assert (await command(tmp_path, "events", "revoke", "crm")).exit_code == 0
        outside = connect_redis(shown["url"], username=shown["user"], passwords=lambda: (password[1],))
        with pytest.raises(Exception, match=r"WRONGPASS|invalid username"):
            await outside.ping()
        await outside.aclose()
        assert await stage.redis.xinfo_groups(stage.topology.log(Log.BOT)) == []
        again = await command(tmp_path, "events", "revoke", "crm")
        assert again.exit_code == 2


async def test_a_password_goes_to_a_file_of_its_owners_only(desk_stage: BusStage, tmp_path: Path) -> None:
    async with desk_stage.served(tmp_path):
        file = tmp_path / "secret"
        made = await command(tmp_path, "events", "grant", "a", "--log", "bot", "--password-file", str(file))
        assert made.exit_code == 0, made.output
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().strip() not in made.output
        taken = await command(tmp_path, "events", "grant", "b", "--log", "bot", "--password-file", str(file))
        assert taken.exit_code == 2
        refused = await command(tmp_path, "events", "grant", "a", "--log", "bot", "--password-file", str(file) + "2")
        assert refused.exit_code == 2
        assert not Path(str(file) + "2").exists()


async def test_grants_share_a_group_on_purpose_only(desk_stage: BusStage) -> None:
    desk = desk_stage.desk
    first = await desk.grant("one", ["bot"], "workers", HASH, None, "end")
    second = await desk.grant("two", ["bot"], "workers", HASH, None, "end")
    alone = await desk.grant("three", ["bot"], None, HASH, None, "end")
    assert first.group == second.group != alone.group
    with pytest.raises(UsageError, match="reads as group workers already"):
        await desk.grant("workers", ["bot"], None, HASH, None, "end")
    with pytest.raises(UsageError, match="has a grant already"):
        await desk.grant("one", ["bot"], "other", HASH, None, "end")
    for name, logs in (("Bad", ["bot"]), ("-x", ["bot"]), ("good", []), ("good", ["dead"])):
        with pytest.raises(UsageError):
            await desk.grant(name, logs, None, HASH, None, "end")


async def test_a_redis_that_began_anew_has_grants_again_and_what_was_lost_is_told(desk_stage: BusStage) -> None:
    stage = desk_stage
    grant = await stage.desk.grant("crm", ["bot"], None, HASH, None, "end")
    old = int(time.time() * 1000) - 2 * 3_600_000
    await stage.redis.delete(stage.topology.log(Log.BOT))
    await lose_group(stage)
    first = await stage.put(Log.BOT, "shop.paid", n=1, at=old)
    await stage.put(Log.BOT, "shop.paid", n=2, at=old)
    await stage.desk.lag()
    keys = [key async for key in stage.redis.scan_iter(match=f"{stage.topology.namespace}:*")]
    await stage.redis.delete(*keys)
    await stage.redis.acl_deluser(grant.user)
    teller = asyncio.create_task(stage.drops.run())
    try:
        assert await stage.bus.settle(5)
        assert await stage.redis.acl_getuser(grant.user)
        (group,) = await stage.redis.xinfo_groups(stage.topology.log(Log.BOT))
        assert group["name"].decode() == grant.group

        async def told() -> bool:
            return bool(await stage.rows("SELECT 1 FROM outbox WHERE bot_id = 0 AND type = 'bus.dropped'"))

        await eventually(told)
        ((data,),) = await stage.rows("SELECT data::text FROM outbox WHERE bot_id = 0 AND type = 'bus.dropped'")
        told_of = json.loads(data)
        assert abs(int(told_of.pop("before_id").removesuffix("-0")) - old - 3_660_000) < 60_000
        assert told_of == {
            "stream": stage.topology.log(Log.BOT), "reader": "grant:crm", "entries": 2, "first_id": first,
            "reason": "redis",
        }  # fmt: skip
    finally:
        teller.cancel()
    again = await stage.put(Log.BOT, "shop.paid", n=1)
    (lag,) = (await stage.desk.lag()).readers
    assert (lag.reader, lag.unread, lag.dropped) == ("grant:crm", 1, 2)
    assert again


async def test_what_comes_again_from_the_database_is_not_told_as_lost(desk_stage: BusStage) -> None:
    stage = desk_stage
    await stage.desk.grant("crm", ["bot"], None, HASH, None, "end")
    await stage.put(Log.BOT, "shop.paid")
    await stage.desk.lag()
    await stage.redis.delete(stage.topology.log(Log.BOT), stage.topology.marker)
    assert await stage.bus.settle(5)
    assert stage.drops.entries == {}
    assert len(await stage.redis.xinfo_groups(stage.topology.log(Log.BOT))) == 1


async def test_a_new_control_knows_the_grants_and_a_database_away_takes_nothing_from_anybody(
    desk_stage: BusStage, database: Any, valkey_admin_url: str
) -> None:
    grant = await desk_stage.desk.grant("kept", ["bot"], None, HASH, None, "end")
    successor = BusStage(database.control, valkey_admin_url, desk_stage.topology.namespace)
    try:
        await successor.bus.settle(5)  # before it has read the registry
        assert await successor.redis.acl_getuser(grant.user)
        reading = asyncio.create_task(successor.grants.run())

        async def known() -> bool:
            return "kept" in successor.grants.grants

        await eventually(known)
        reading.cancel()
        await successor.bus.settle(5)
        assert await successor.redis.acl_getuser(grant.user)
        (group,) = await successor.redis.xinfo_groups(successor.topology.log(Log.BOT))
        assert group["name"].decode() == grant.group
    finally:
        await successor.close()


async def test_a_reader_that_has_not_read_for_long_is_told_of_before_it_loses_anything(desk_stage: BusStage) -> None:
    stage = desk_stage
    await stage.desk.grant("slow", ["bot"], None, HASH, None, "beginning")
    now = int(time.time() * 1000)
    await stage.put(Log.BOT, "shop.paid", at=now - 10 * 3_600_000)
    assert (await stage.desk.lag()).warnings == []
    await stage.redis.delete(stage.topology.log(Log.BOT))
    await lose_group(stage)
    await stage.put(Log.BOT, "shop.paid", at=now - 22 * 3_600_000)
    (warning,) = (await stage.desk.lag()).warnings
    assert warning.startswith("grant:slow has not read 1 events of the log bot for 22.0 hours; events are kept for 1.0")
    assert stage.desk.glance().warnings == [warning]


async def lose_group(stage: BusStage) -> None:
    """Have the groups made again on a log that has gone, for events of a time before the grant."""
    stage.grants._changed = True
    await stage.bus.settle(5)


async def replayed(stage: BusStage, **wish: Any) -> Any:
    lines = [line async for line in await stage.desk.replay(ReplayWish(**wish))]
    return lines[-1]


async def test_a_replay_gives_a_bot_what_it_subscribes_to_once_more_marked_and_in_order(desk_stage: BusStage) -> None:
    stage = desk_stage
    shop, other = bot("shop", subscribe=["order.*"]), bot("other", subscribe=["*"])
    await stage.apply(shop, other)
    ids = []
    for n in range(250):
        log = Log.BOT if n % 2 else Log.SYSTEM
        ids.append(await stage.put(log, "order.placed" if n % 5 else "order.paid", n=n, at=1_000_000 + n))
    await stage.put(Log.BOT, "weather.changed", n=1)
    dry = await replayed(stage, to="shop", since=0, dry_run=True)
    assert (dry.looked_at, dry.given, dry.by_type, dry.done) == (
        251,
        250,
        {"order.paid": 50, "order.placed": 200},
        True,
    )
    assert await events_of(stage, shop.bot_id) == []

    done = await replayed(stage, to="shop", first=ids[10], last=ids[99])
    assert (done.given, done.last, done.error) == (90, ids[99], "")
    got = await events_of(stage, shop.bot_id)
    assert [event.data["n"] for event in got] == list(range(10, 100))
    assert {event.replay for event in got} == {done.mark}
    assert got[0].cause == f"event:{got[0].id}@{done.mark}"
    assert {event.source for event in got} == {"bot:5"}
    assert await events_of(stage, other.bot_id) == []

    await stage.redis.xtrim(stage.topology.mailbox(shop.bot_id), maxlen=0)
    paid = await replayed(stage, to="shop", since=0, type="order.paid")
    assert (paid.given, paid.by_type) == (50, {"order.paid": 50})
    with pytest.raises(UsageError):
        await replayed(stage, to="shop", since=0, type="order.*.")
    with pytest.raises(UsageError):
        await replayed(stage, to="grant:nobody", since=0)


async def test_a_replay_waits_for_its_reader_and_gives_up_on_one_that_does_not_read(desk_stage: BusStage) -> None:
    stage = desk_stage
    shop = bot("shop", subscribe=["order.*"])
    await stage.apply(shop)
    for n in range(450):
        await stage.put(Log.BOT, "order.placed", n=n)
    mailbox = stage.topology.mailbox(shop.bot_id)
    most = 0

    async def reader(client: Redis) -> int:
        nonlocal most
        read = 0
        while read < 450:
            most = max(most, await client.xlen(mailbox))
            reply = await client.xreadgroup(MAILBOX_GROUP, "bot", {mailbox: ">"}, count=40)
            entries = [entry for found in reply.values() for entry, _ in found]
            if entries:
                await client.xack(mailbox, MAILBOX_GROUP, *entries)
                await client.xdel(mailbox, *entries)
            read += len(entries)
            await asyncio.sleep(0)
        return read

    reading = asyncio.create_task(reader(stage.redis))
    replayer = Replayer(stage.redis, stage.topology, room=50, patience=10)
    lines = [one async for one in replayer.replay(shop.bot_id, lambda event: True, "m", after="0")]
    assert lines[-1].given == 450
    assert await reading == 450
    assert most < 150 + 1
    stuck = Replayer(stage.redis, stage.topology, room=50, patience=0.3)
    with pytest.raises(ReaderStuckError, match="100 events were given again") as error:
        async for _ in stuck.replay(shop.bot_id, lambda event: True, "n", after="0"):
            pass
    first_left = (await stage.redis.xrange(stage.topology.log(Log.BOT), count=101))[100][0].decode()
    assert f"--from {first_left}" in str(error.value.hint)


async def test_requests_are_left_out_and_a_grant_is_put_back(desk_stage: BusStage, tmp_path: Path) -> None:
    stage = desk_stage
    everything = bot("all", subscribe=["*"])
    await stage.apply(everything)
    request = Event(id="q", type="order.ask", source="bot:5", occurred_at=1.0, to="bot:6", deadline=2.0)
    await stage.redis.xadd(stage.topology.log(Log.BOT), {FIELD: encode_event(request)})
    await stage.put(Log.BOT, "order.placed", n=1)
    assert (await replayed(stage, to="all", since=0)).given == 1
    await stage.desk.grant("crm", ["bot"], None, HASH, None, "end")
    async with stage.served(tmp_path):
        shown = await command(tmp_path, "events", "replay", "--to", "grant:crm", "--since", "1h")
        assert shown.stdout == "log bot: 2 events are read once more\n"
        lag = json.loads((await command(tmp_path, "events", "lag", "--json")).stdout)
        assert [one["unread"] for one in lag["readers"] if one["reader"] == "grant:crm"] == [2]
        told = await command(tmp_path, "events", "replay", "--to", "all", "--since", "1h", "--dry-run")
        assert told.stdout == "       1  order.placed\n"
        assert "1 of 2 events would be given to all" in told.stderr
        assert (await command(tmp_path, "events", "replay", "--to", "nobody", "--since", "1h")).exit_code == 4
        assert (await command(tmp_path, "events", "replay", "--to", "all")).exit_code == 2
    assert [one[0] for one in stage.notes.taken].count("command.events-replay") == 1  # a dry run changes nothing
