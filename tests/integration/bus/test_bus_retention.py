"""The logs keep events by age, longer for who has not read them, and say what is lost when there is no room."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grants import GrantAdmin
from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.caretaking.retention import Retention
from botctl.bus.events import Log
from botctl.bus.reading.lag import measure
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.topology import FIELD
from integration.bus.test_bus_grants import lag_of, new_grant, outside, read

# pytest gives `bus` from conftest.py; its type can't be imported from there.
Bus = Any
DAY = 86_400_000


async def put(bus: Bus, ids: list[int], size: int = 10) -> list[str]:
    """Entries of the log of bots with these ids, in milliseconds; enough of them fill a node each, so `~` is exact."""
    log = bus.topology.log(Log.BOT)
    return [(await bus.redis.xadd(log, {FIELD: b"x" * size}, id=f"{one}-0")).decode() for one in ids]


async def left(bus: Bus) -> list[str]:
    return [entry_id.decode() for entry_id, _ in await bus.redis.xrange(bus.topology.log(Log.BOT))]


async def test_what_a_reader_has_not_read_stays_beyond_its_age(bus: Bus) -> None:
    await bus.redis.config_set("stream-node-max-entries", "1")
    try:
        await bus.admin.ensure_logs()
        now = int(time.time() * 1000)
        old = await put(bus, [now - 9 * DAY + n for n in range(4)])
        new = await put(bus, [now - n for n in (20, 10)])
        grant, password = new_grant("slow")
        await GrantAdmin(bus.admin).ensure([grant])
        told: list[Dropped] = []
        retention = Retention(bus.redis, bus.topology, 7 * 86_400, told.append)
        client = outside(bus, grant, password)
        assert await read(client, bus, grant, count=2) == old[:2]
        await client.xack(bus.topology.log(Log.BOT), grant.group, old[0])

        await retention.trim(now)
        assert await left(bus) == [*old[1:], *new]  # the second was read and not acknowledged
        assert retention.overdue == {(bus.topology.log(Log.BOT), grant.group): old[1]}
        assert await read(client, bus, grant) == [*old[2:], *new]
        await client.xack(bus.topology.log(Log.BOT), grant.group, *old)
        await retention.trim(now)
        assert await left(bus) == new
        assert retention.overdue == {}
        assert told == []
    finally:
        await bus.redis.config_set("stream-node-max-entries", "100")


async def test_a_log_that_nobody_outside_reads_keeps_events_by_their_age_alone(bus: Bus) -> None:
    await bus.redis.config_set("stream-node-max-entries", "1")
    try:
        now = int(time.time() * 1000)
        await put(bus, [now - 8 * DAY])
        new = await put(bus, [now])
        await bus.redis.xgroup_create(bus.topology.log(Log.BOT), "somebody-elses", "0")
        await Retention(bus.redis, bus.topology).trim(now)
        assert await left(bus) == new
    finally:
        await bus.redis.config_set("stream-node-max-entries", "100")


async def test_what_the_memory_has_no_room_for_is_counted_and_told_for_each_reader(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    now = int(time.time() * 1000)
    quick, quick_password = new_grant("quick")
    slow, slow_password = new_grant("slow")
    await GrantAdmin(bus.admin).ensure([quick, slow])
    ids = await put(bus, [now - 1000 + n for n in range(400)], size=2000)
    log = bus.topology.log(Log.BOT)
    reader = outside(bus, slow, slow_password)
    assert await read(reader, bus, slow, count=3) == ids[:3]  # pending, and lost with the others
    reader = outside(bus, quick, quick_password)
    got = await read(reader, bus, quick)
    await reader.xack(log, quick.group, *got)

    told: list[Dropped] = []
    janitor = Janitor(bus.redis, bus.topology, memory=4_000_000, on_dropped=told.append)
    await janitor.tidy([], lambda bot: None, Roster())
    kept = await left(bus)
    gone = len(ids) - len(kept)
    assert 100 < gone < 390
    assert told == [Dropped(log, "grant:slow", gone, ids[0], kept[0], "memory")]
    (lag,) = await measure(bus.redis, [lag_of(bus, slow)])
    assert (lag.unread, lag.pending) == (len(kept), 3)
    assert await read(outside(bus, slow, slow_password), bus, slow) == kept
    (lag,) = await measure(bus.redis, [lag_of(bus, slow)])
    assert lag.unread == 0
    await reader.aclose()
    assert await outside(bus, slow, slow_password).xack(log, slow.group, *ids[:3], *kept) == 3 + len(kept)

    await janitor.tidy([], lambda bot: None, Roster())
    assert len(told) == 1


async def test_an_overflowing_mailbox_says_what_it_has_lost(bus: Bus, eventually: Callable[..., Any]) -> None:
    await bus.add_bot(1)
    mailbox = bus.topology.mailbox(1)
    ids = [(await bus.redis.xadd(mailbox, {FIELD: b"x"})).decode() for _ in range(30)]
    told: list[Dropped] = []
    janitor = Janitor(bus.redis, bus.topology, mailbox_limit=10, on_dropped=told.append)
    await janitor.tidy([1], lambda bot: None, Roster({1: Member(name="a")}))
    assert told == [Dropped(mailbox, "bot:1", 20, ids[0], ids[20], "overflow")]
