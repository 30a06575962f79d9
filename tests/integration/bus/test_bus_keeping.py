"""What logs and mailboxes keep, what is trimmed, and how logs are read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.caretaking.room import LOG_SHARE, MAILBOXES_SHARE
from botctl.bus.events import Log, encode_event
from botctl.bus.reading.reader import read_log, read_logs
from botctl.bus.routing.roster import Roster
from botctl.bus.topology import Topology
from support.bus_steps import tick


async def test_the_janitor_trims_mailboxes_only_up_to_what_is_acknowledged(bus: Any) -> None:
    await bus.add_bot(1)
    stream = bus.topology.mailbox(1)
    ids = [await bus.redis.xadd(stream, {"e": b"x"}) for _ in range(10)]
    janitor = Janitor(bus.redis, bus.topology)
    await janitor.tidy([0, 1], lambda bot: None, Roster())
    assert await bus.redis.xlen(stream) == 10
    await bus.redis.xreadgroup("bot", "bot", {stream: ">"}, count=6)
    await bus.redis.xack(stream, "bot", *ids[:3], ids[4])
    await janitor.tidy([0, 1], lambda bot: None, Roster())
    assert [entry_id for entry_id, _ in await bus.redis.xrange(stream)] == ids[3:]
    await bus.redis.xack(stream, "bot", *ids[:6])
    await janitor.tidy([0, 1], lambda bot: None, Roster())
    assert [entry_id for entry_id, _ in await bus.redis.xrange(stream)] == ids[6:]
    assert janitor.mailbox_depths == {1: 4}
    assert janitor.dropped == 0


async def test_a_mailbox_nobody_reads_is_cut_and_that_is_said(bus: Any) -> None:
    await bus.add_bot(1)
    for _ in range(30):
        await bus.redis.xadd(bus.topology.mailbox(1), {"e": b"x"})
    janitor = Janitor(bus.redis, bus.topology, mailbox_limit=20)
    await janitor.tidy([1], lambda bot: None, Roster())
    assert (janitor.dropped, await bus.redis.xlen(bus.topology.mailbox(1))) == (10, 20)


async def test_logs_keep_what_is_young(bus: Any) -> None:
    stream = bus.topology.log(Log.BOT)
    now = int(time.time() * 1000)
    body = encode_event(tick("x"))
    for age_ms in [10_000_000] * 300 + [1000] * 5:
        await bus.redis.xadd(stream, {"e": body}, id=f"{now - age_ms}-*")
    await Janitor(bus.redis, bus.topology, keep_seconds=3600).tidy([], lambda bot: None, Roster())
    assert 5 <= await bus.redis.xlen(stream) < 120


async def test_a_reader_follows_several_logs_in_order(bus: Any) -> None:
    topology: Topology = bus.topology
    stop = encode_event(tick("stop", "fleet.stopped"))
    for n in range(1200):
        log = (Log.BOT, Log.USER)[n % 2]
        await bus.redis.xadd(topology.log(log), {"e": encode_event(tick(str(n)))}, id=f"{n + 1}-0")
    found = [(log, event.id) async for log, _, event in read_logs(bus.redis, topology, list(Log))]
    assert found == [((Log.BOT, Log.USER)[n % 2], str(n)) for n in range(1200)]
    assert [event.id async for _, event in read_log(bus.redis, topology, Log.BOT, after="1197-0")] == ["1198"]

    seen: list[str] = []

    async def follow() -> None:
        async for _, _, event in read_logs(bus.client(blocking=True), topology, list(Log), after="$", follow=True):
            seen.append(event.id)
            if event.id == "stop":
                return

    following = asyncio.create_task(follow())
    while not following.done():
        await bus.redis.xadd(topology.log(Log.SYSTEM), {"e": stop})
        await asyncio.sleep(0.01)
    assert seen == ["stop"]


async def test_logs_and_mailboxes_keep_to_their_share_of_the_memory(make_server: Any, make_bus: Any) -> None:
    """Large events of distinct ids, routed well: nothing but bytes limits them for days."""
    bus = make_bus(make_server("--maxmemory", "48mb").url)
    await bus.add_bot(1)
    await bus.add_bot(2)
    log, mailboxes = bus.topology.log(Log.BOT), [bus.topology.mailbox(bot) for bot in (1, 2)]
    for n in range(200):
        await bus.redis.xadd(log, {"e": b"%05d" % n + b"x" * 60_000})
        await bus.redis.xadd(mailboxes[0], {"e": b"x" * 60_000})
    await bus.redis.xadd(mailboxes[1], {"e": b"small"})
    janitor = Janitor(bus.redis, bus.topology)
    await janitor.tidy([1, 2], lambda bot: None, Roster())
    assert await bus.redis.memory_usage(log, samples=0) <= LOG_SHARE * 48 * 2**20
    ((_, newest),) = await bus.redis.xrevrange(log, count=1)
    assert newest[b"e"].startswith(b"00199"), "the oldest go"
    assert await bus.redis.memory_usage(mailboxes[0], samples=0) <= MAILBOXES_SHARE * 48 * 2**20
    assert await bus.redis.xlen(mailboxes[1]) == 1
    assert janitor.dropped == 400 - await bus.redis.xlen(log) - await bus.redis.xlen(mailboxes[0])
