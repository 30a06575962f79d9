"""From outbox to log and mailbox, on a server that works and on one that doesn't."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError, OutOfMemoryError

from botctl.bus import router as router_module
from botctl.bus.allowance import Allowance
from botctl.bus.client import connect
from botctl.bus.events import Event, Log, encode_event
from botctl.bus.janitor import Janitor
from botctl.bus.mailbox import Mailbox
from botctl.bus.reader import read_dead_letters, read_log, read_logs, replay_dead_letter
from botctl.bus.relay import Relay
from botctl.bus.room import LOG_SHARE, MAILBOXES_SHARE, Room
from botctl.bus.topology import Topology

BRICK = "18446744073709551615-18446744073709551615"


def tick(event_id: str, event_type: str = "custom.tick", **data: Any) -> Event:
    return Event(id=event_id, type=event_type, occurred_at=time.time(), correlation_id="t1", data=data)


async def logged(bus: Any, log: Log = Log.BOT) -> list[str]:
    return [event.id async for _, event in read_log(bus.redis, bus.topology, log)]


async def start_relay(bus: Any, bot_id: int, outbox: Any, **options: Any) -> Relay:
    client = bus.redis if bot_id == 0 else bus.bot_client(bot_id)
    relay = Relay(client, bus.topology, bot_id, outbox, **options)
    bus.start(relay)
    return relay


async def test_an_event_of_one_bot_reaches_the_log_and_another_bots_mailbox(bus: Any, new_outbox: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "message.*")
    await bus.add_bot(3, "custom.*")
    bus.start(bus.router())
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox)
    mailbox = Mailbox(bus.bot_client(2, blocking=True), bus.topology, 2)
    reading = asyncio.create_task(mailbox.read())
    outbox.put(tick("m1", "message.received", chat_id=5, user_id=6))
    relay.wake()
    [entry] = await asyncio.wait_for(reading, 10)
    event = entry.event
    assert event is not None
    assert (event.id, event.source, event.correlation_id) == ("m1", "bot:1", "t1")
    assert event.data == {"chat_id": 5, "user_id": 6}
    assert await logged(bus, Log.USER) == ["m1"]
    assert await bus.redis.xlen(bus.topology.mailbox(3)) == 0
    assert await bus.redis.xlen(bus.topology.out(1)) == 0


async def test_many_events_of_many_bots_arrive_once_and_in_order(bus: Any, new_outbox: Any, eventually: Any) -> None:
    bots, each = range(1, 6), 700
    await bus.add_bot(9, "*")
    for bot in bots:
        await bus.add_bot(bot)
        outbox = new_outbox()
        outbox.put(*(tick(f"{bot}-{n}", n=n) for n in range(each)))
        await start_relay(bus, bot, outbox)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 5 * each)
    by_source: dict[str, list[int]] = {}
    async for _, event in read_log(bus.redis, bus.topology, Log.BOT):
        by_source.setdefault(event.source, []).append(event.data["n"])
    assert by_source == {f"bot:{bot}": list(range(each)) for bot in bots}
    assert await bus.redis.xlen(bus.topology.mailbox(9)) == 5 * each
    assert router.stats.duplicates == router.stats.rejected == 0


async def test_the_fleets_own_events_take_the_same_way(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.apply()
    bus.start(bus.router())
    outbox = new_outbox()
    await start_relay(bus, 0, outbox)
    outbox.put(tick("f1", "fleet.started", version="1", bots=3))
    await eventually(lambda: asyncio.ensure_future(logged(bus, Log.SYSTEM)))
    [(_, event)] = [item async for item in read_log(bus.redis, bus.topology, Log.SYSTEM)]
    assert event.source == "fleet"


async def test_a_bot_reacts_to_itself_only_when_it_asks_for_that_type(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1, "*")
    await bus.add_bot(2, "*", "custom.tick")
    router = bus.router()
    bus.start(router)
    for bot in (1, 2):
        await bus.bot_client(bot).xadd(bus.topology.out(bot), {"e": encode_event(tick(f"by {bot}"))})
    await eventually(lambda: router.stats.routed == 2)
    assert await bus.redis.xlen(bus.topology.mailbox(1)) == 1
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 2


async def test_the_doorbell_makes_it_quick_and_the_sweep_works_without(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    router = bus.router(sweep_every=0.05)
    bus.start(router)
    await eventually(lambda: router.stats.doorbell)
    client = bus.bot_client(1)
    took = []
    for n in range(20):
        start = time.perf_counter()
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick(f"{n}"))})
        while router.stats.routed <= n:  # noqa: ASYNC110
            await asyncio.sleep(0)
        took.append(time.perf_counter() - start)
    assert sorted(took)[10] < 0.1
    flags = (await bus.redis.config_get("notify-keyspace-events")).popitem()[1]
    await bus.redis.config_set("notify-keyspace-events", "")
    try:
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick("last"))})
        await eventually(lambda: router.stats.routed == 21)
    finally:
        await bus.redis.config_set("notify-keyspace-events", flags)


async def test_without_the_right_to_configure_the_sweep_does_it_all(
    bus: Any, make_bus: Any, eventually: Any, sha256: Any
) -> None:
    name = f"{bus.topology.namespace}-limited"
    await bus.redis.execute_command("ACL", "SETUSER", name, "on", f"#{sha256('pw')}", "~*", "&*", "+@all", "-config")
    limited = make_bus(f"redis://{name}:pw@{bus.plain_url.removeprefix('redis://')}")
    try:
        await limited.add_bot(1)
        router = limited.router(sweep_every=0.05)
        limited.start(router)
        await limited.bot_client(1).xadd(limited.topology.out(1), {"e": encode_event(tick("a"))})
        await eventually(lambda: router.stats.routed == 1)
        assert not router.stats.doorbell
    finally:
        await limited.aclose()
        await bus.redis.acl_deluser(name)


async def test_a_bot_that_comes_later_is_found(bus: Any, eventually: Any) -> None:
    router = bus.router()
    await bus.apply()
    bus.start(router)
    await eventually(lambda: router.stats.doorbell)
    await bus.add_bot(1)
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    await eventually(lambda: router.stats.routed == 1)


async def test_what_a_bot_must_not_publish_is_kept_as_a_dead_letter_and_can_be_replayed(
    bus: Any, eventually: Any
) -> None:
    await bus.add_bot(1)
    rejected: list[Any] = []
    router = bus.router(on_rejected=rejected.append)
    bus.start(router)
    client = bus.bot_client(1)
    await client.xadd(
        bus.topology.out(1), {"e": encode_event(tick("forged", "threat.detected", rule="x", severity="low"))}
    )
    await client.xadd(bus.topology.out(1), {"e": b"\xff nonsense"})
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("good"))})
    await eventually(lambda: router.stats.routed == 1)
    assert await logged(bus) == ["good"]
    newest, oldest = await read_dead_letters(bus.redis, bus.topology)
    assert "no event" in newest.reason
    assert "may not publish threat.detected" in oldest.reason
    assert (oldest.stream, json.loads(oldest.body)["id"]) == (bus.topology.out(1), "forged")
    assert [one.bot_id for one in rejected] == [1, 1]
    await replay_dead_letter(bus.redis, oldest)
    await eventually(lambda: router.stats.rejected == 3)
    assert len(await read_dead_letters(bus.redis, bus.topology)) == 2


async def test_an_event_relayed_twice_is_routed_once_also_by_the_next_router(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    first = bus.router()
    running = bus.start(first)
    for _ in range(2):
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    await eventually(lambda: first.stats.duplicates == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    second = bus.router()
    bus.start(second)
    await eventually(lambda: second.stats.duplicates == 1)
    assert await logged(bus) == ["a"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_router_that_loses_redis_around_its_commit_routes_everything_once(
    bus: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    real, failures = router_module.transact, 3

    async def unreliable(*args: Any, **options: Any) -> list[Any]:
        nonlocal failures
        if failures:
            failures -= 1
            if done:
                await real(*args, **options)
            raise ConnectionError("the reply was lost")
        return await real(*args, **options)

    monkeypatch.setattr(router_module, "transact", unreliable)
    client = bus.bot_client(1)
    for n in range(250):
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    router = bus.router()
    bus.start(router)

    async def emptied() -> bool:
        return failures == 0 and not await bus.redis.xlen(bus.topology.out(1))

    await eventually(emptied)
    assert await logged(bus) == [str(n) for n in range(250)]
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 250


async def test_what_a_dead_router_had_read_is_routed_by_the_next_one(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    for n in range(5):
        await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    await bus.redis.xreadgroup("router", "router", {bus.topology.out(1): ">"}, count=3)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 5)
    assert await logged(bus) == ["0", "1", "2", "3", "4"]


async def test_an_out_stream_made_unusable_is_begun_again(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("last words"))}, id=BRICK)
    outbox = new_outbox()
    outbox.put(tick("after"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: not relay.healthy)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 2, 30)
    assert router.stats.replaced_streams == 1
    assert await logged(bus) == ["last words", "after"]
    await eventually(lambda: relay.healthy)


async def test_a_bot_that_empties_its_own_stream_hurts_only_itself(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    router = bus.router()
    bus.start(router)
    bad, good = bus.bot_client(1), bus.bot_client(2)
    for n in range(50):
        await bad.xadd(bus.topology.out(1), {"e": encode_event(tick(f"bad {n}"))}, maxlen=1, approximate=False)
        await good.xadd(bus.topology.out(2), {"e": encode_event(tick(f"good {n}"))})
    await bad.xadd(bus.topology.out(1), {"e": b"x"}, id=BRICK)
    await eventually(lambda: asyncio.ensure_future(count_of(bus, "good")))
    assert router.stats.healthy


async def count_of(bus: Any, word: str) -> bool:
    return len([one for one in await logged(bus) if one.startswith(word)]) == 50


async def test_a_large_event_for_many_mailboxes_gets_through(bus: Any, eventually: Any) -> None:
    for bot in range(1, 151):
        bus.passwords[bot] = f"pw-{bot}"
        bus.subscribers[bot] = ("custom.*",)
    await bus.apply()
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("large", text="x" * 60_000))})
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.delivered == 149)
    assert router.stats.healthy
    assert await bus.redis.xlen(bus.topology.mailbox(150)) == 1


async def test_a_write_that_fails_when_executed_becomes_a_dead_letter(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "custom.*")
    await bus.redis.delete(bus.topology.mailbox(2))
    await bus.redis.set(bus.topology.mailbox(2), "no stream")
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    router = bus.router()
    bus.start(router)
    await eventually(lambda: asyncio.ensure_future(read_dead_letters(bus.redis, bus.topology)))
    assert await logged(bus) == ["a"]
    [letter] = await read_dead_letters(bus.redis, bus.topology)
    assert "WRONGTYPE" in letter.reason


async def test_the_janitor_trims_mailboxes_only_up_to_what_is_acknowledged(bus: Any) -> None:
    await bus.add_bot(1)
    stream = bus.topology.mailbox(1)
    ids = [await bus.redis.xadd(stream, {"e": b"x"}) for _ in range(10)]
    janitor = Janitor(bus.redis, bus.topology)
    await janitor.tidy([0, 1], lambda bot: None)
    assert await bus.redis.xlen(stream) == 10
    await bus.redis.xreadgroup("bot", "bot", {stream: ">"}, count=6)
    await bus.redis.xack(stream, "bot", *ids[:3], ids[4])
    await janitor.tidy([0, 1], lambda bot: None)
    assert [entry_id for entry_id, _ in await bus.redis.xrange(stream)] == ids[3:]
    await bus.redis.xack(stream, "bot", *ids[:6])
    await janitor.tidy([0, 1], lambda bot: None)
    assert [entry_id for entry_id, _ in await bus.redis.xrange(stream)] == ids[6:]
    assert janitor.mailbox_depths == {1: 4}
    assert janitor.dropped == 0


async def test_a_mailbox_nobody_reads_is_cut_and_that_is_said(bus: Any) -> None:
    await bus.add_bot(1)
    for _ in range(30):
        await bus.redis.xadd(bus.topology.mailbox(1), {"e": b"x"})
    janitor = Janitor(bus.redis, bus.topology, mailbox_limit=20)
    await janitor.tidy([1], lambda bot: None)
    assert (janitor.dropped, await bus.redis.xlen(bus.topology.mailbox(1))) == (10, 20)


async def test_logs_keep_what_is_young(bus: Any) -> None:
    stream = bus.topology.log(Log.BOT)
    now = int(time.time() * 1000)
    body = encode_event(tick("x"))
    for age_ms in [10_000_000] * 300 + [1000] * 5:
        await bus.redis.xadd(stream, {"e": body}, id=f"{now - age_ms}-*")
    await Janitor(bus.redis, bus.topology, keep_seconds=3600).tidy([], lambda bot: None)
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


async def test_one_bad_row_does_not_block_the_outbox(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    refused: list[Any] = []
    outbox.put(tick("a"), tick("big", text="x" * 70_000), tick("b"))
    relay = await start_relay(bus, 1, outbox, on_refused=lambda row, error: refused.append((row.event.id, error)))
    await eventually(lambda: not outbox.rows)
    assert (relay.relayed, relay.refused, relay.healthy) == (2, 1, True)
    assert [event_id for event_id, _ in refused] == ["big"]


async def test_a_relay_waits_for_the_database(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    outbox.broken = True
    relay = await start_relay(bus, 1, outbox, check_every=0.02)
    await eventually(lambda: relay.reason == "the outbox can't be read or marked")
    outbox.broken = False
    outbox.put(tick("a"))
    await eventually(lambda: relay.healthy and not outbox.rows)


async def test_a_relay_looks_by_itself_when_nobody_wakes_it(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox, check_every=0.05)
    await eventually(lambda: relay.healthy)
    outbox.put(tick("a"))
    await eventually(lambda: not outbox.rows)


async def test_nothing_is_lost_when_redis_is_killed_and_comes_back(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    server = make_server("--appendfsync", "always")
    bus = make_bus(server.url)
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox, batch=20)
    router = bus.router()
    bus.start(router)
    expected = []
    for turn in range(3):
        for n in range(200):
            expected.append(f"{turn}-{n}")
            outbox.put(tick(expected[-1]))
        relay.wake()
        await eventually(lambda: router.stats.routed > 0)
        server.kill()
        outbox.put(tick(f"{turn}-down"))
        expected.append(f"{turn}-down")
        await eventually(lambda: not relay.healthy and not router.stats.healthy)
        server.start()
        await bus.apply()
        await eventually(lambda: relay.healthy and not outbox.rows, 30)
    await eventually(lambda: asyncio.ensure_future(arrived(bus, expected)), 30)
    assert await logged(bus) == expected


async def arrived(bus: Any, expected: list[str]) -> bool:
    return set(await logged(bus)) == set(expected)


async def test_an_emptied_server_is_noticed_and_made_again(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server().url)
    await bus.add_bot(1, "bot.*")
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox)
    router = bus.router(sweep_every=0.05)
    bus.start(router)
    outbox.put(tick("a"))
    relay.wake()
    await eventually(lambda: router.stats.routed == 1)
    before = await bus.admin.run_id()
    await bus.redis.flushall()
    assert await bus.admin.run_id() != before
    await bus.apply()
    outbox.put(tick("b"))
    relay.wake()
    await eventually(lambda: router.stats.routed == 2)
    mailbox = Mailbox(bus.bot_client(1, blocking=True), bus.topology, 1)
    assert await mailbox.read(block_ms=0) == []


async def test_nothing_is_acknowledged_while_redis_is_out_of_memory(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server().url)
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    for n in range(50):
        await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    await bus.redis.config_set("maxmemory", "1mb")
    router = bus.router()
    bus.start(router)
    outbox = new_outbox()
    outbox.put(tick("late"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: not router.stats.healthy and not relay.healthy)
    assert "memory" in router.stats.reason
    assert await logged(bus) == []
    assert await bus.redis.xlen(bus.topology.out(1)) == 50
    await bus.redis.config_set("maxmemory", "256mb")
    await eventually(lambda: router.stats.routed == 51, 30)
    assert await logged(bus) == [*map(str, range(50)), "late"]
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 51


async def test_a_bot_that_fills_the_server_stops_the_others_for_seconds_only(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server("--maxmemory", "48mb").url)
    await bus.add_bot(1)
    await bus.add_bot(2)
    await bus.add_bot(3, "custom.*")
    flooder = bus.bot_client(1)
    body = encode_event(tick("flood", text="x" * 60_000))
    full = asyncio.Event()

    async def flood() -> None:
        while True:
            try:
                await flooder.xadd(bus.topology.out(1), {"e": body})
            except OutOfMemoryError:
                full.set()

    flooding = asyncio.create_task(flood())
    await full.wait()
    router = bus.router()
    bus.start(router)
    outbox = new_outbox()
    outbox.put(tick("of-another"))
    await start_relay(bus, 2, outbox)
    await eventually(lambda: not outbox.rows and router.stats.healthy and router.stats.routed >= 2, 10)
    mailbox = Mailbox(bus.bot_client(3, blocking=True), bus.topology, 3)
    ids: set[str] = set()
    async with asyncio.timeout(10):
        while "of-another" not in ids:
            ids |= {entry.event.id for entry in await mailbox.read() if entry.event is not None}
    assert router.stats.dropped > 0
    reasons = [letter.reason for letter in await read_dead_letters(bus.redis, bus.topology)]
    assert any(reason.startswith("flood: ") for reason in reasons)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    room = Room(bus.redis, bus.topology)

    async def relieved() -> bool:
        return not await room.scarce()

    await eventually(relieved)


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
    await janitor.tidy([1, 2], lambda bot: None)
    assert await bus.redis.memory_usage(log, samples=0) <= LOG_SHARE * 48 * 2**20
    ((_, newest),) = await bus.redis.xrevrange(log, count=1)
    assert newest[b"e"].startswith(b"00199"), "the oldest go"
    assert await bus.redis.memory_usage(mailboxes[0], samples=0) <= MAILBOXES_SHARE * 48 * 2**20
    assert await bus.redis.xlen(mailboxes[1]) == 1
    assert janitor.dropped == 400 - await bus.redis.xlen(log) - await bus.redis.xlen(mailboxes[0])


async def test_a_bot_over_its_allowance_waits_and_others_do_not(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    for n in range(300):
        await bus.redis.xadd(bus.topology.out(1), {"e": encode_event(tick(f"many-{n}"))})
    router = bus.router(allowance=Allowance(lambda: 0.0, burst=1_000, rate=1.0))
    bus.start(router)
    await eventually(lambda: router.stats.routed == 100)
    outbox = new_outbox()
    outbox.put(tick("of-another"))
    await start_relay(bus, 2, outbox)
    await eventually(lambda: router.stats.routed == 101)
    assert await bus.redis.xlen(bus.topology.out(1)) == 200


async def test_a_relay_without_a_user_waits_until_there_is_one(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.apply()
    bus.passwords[1] = "soon"
    outbox = new_outbox()
    outbox.put(tick("a"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: relay.reason == "redis refuses the login")
    await bus.apply()
    await eventually(lambda: relay.healthy and not outbox.rows)


async def test_a_server_that_never_answers_is_not_reachable(new_outbox: Any, eventually: Any) -> None:
    client = connect("redis://127.0.0.1:1/0")
    outbox = new_outbox()
    outbox.put(tick("a"))
    relay = Relay(client, Topology("x"), 1, outbox)
    running = asyncio.create_task(relay.run())
    await eventually(lambda: relay.reason == "redis is not reachable")
    assert not await relay.drain(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.aclose()
    assert outbox.rows
