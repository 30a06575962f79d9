"""What `bus.py` has done in processes of their own: publish, route, consume, deliver, with the product's own code.

Each job is `python bus_work.py JOB URL NAMESPACE [NUMBERS…]` and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from botctl.bus.client import connect
from botctl.bus.events import Event, encode_event
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.relay import Relay
from botctl.bus.routing.allowance import Allowance
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import FIELD, MAILBOX_GROUP, Topology

TEXT = "a message of some length, as people write them to a bot: " + "x" * 60


def event(bot: int, number: int, type_: str = "shop.paid") -> Event:
    """One as a bot publishes it, some 300 bytes."""
    data = {"n": number, "chat_id": 123_456_789, "text": TEXT, "at": time.time()}
    return Event(
        id=f"{bot}-{number}", type=type_, occurred_at=time.time(), correlation_id="0123456789abcdef", data=data
    )


@dataclass(frozen=True)
class Row:
    """A row of the outbox."""

    seq: int
    event: Event


class Outbox:
    """An outbox in memory: what PostgreSQL takes for a commit is no part of these figures."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque()
        self.seq = 0

    def put(self, *events: Event) -> None:
        """Commit these."""
        for one in events:
            self.seq += 1
            self.rows.append(Row(self.seq, one))

    async def pending(self, limit: int) -> Sequence[Row]:
        """As the port says."""
        return [self.rows[n] for n in range(min(limit, len(self.rows)))]

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """As the port says."""
        for _ in seqs:
            self.rows.popleft()


def client(url: str, *, blocking: bool = False) -> Redis:
    """As the product makes it."""
    return connect(url, blocking=blocking, max_connections=4)


async def publish(url: str, topology: Topology, count: int) -> dict[str, float]:
    """The relay, with an outbox that is full; somebody else takes away what it appends."""
    outbox = Outbox()
    outbox.put(*(event(1, n) for n in range(count)))
    redis = client(url)
    await redis.ping()
    relay = Relay(redis, topology, 1, outbox)
    began = time.perf_counter()
    assert await relay.drain(120)
    return {"rate": count / (time.perf_counter() - began)}


async def publish_redis_py(url: str, topology: Topology, count: int) -> dict[str, float]:
    """The obvious way: pipelines of 500 XADD, bodies encoded by json."""
    redis = Redis.from_url(url)
    await redis.ping()
    now = time.time()
    events = [
        {"id": f"1-{n}", "type": "shop.paid", "version": 1, "occurred_at": now, "correlation_id": "0123456789abcdef",
         "data": {"n": n, "chat_id": 123_456_789, "text": TEXT, "at": now}} for n in range(count)
    ]  # fmt: skip
    began = time.perf_counter()
    for start in range(0, count, 500):
        async with redis.pipeline(transaction=False) as pipe:
            for one in events[start : start + 500]:
                pipe.xadd(topology.out(1), {FIELD: json.dumps(one)})
            await pipe.execute()
    return {"rate": count / (time.perf_counter() - began)}


async def take_away(url: str, topology: Topology, seconds: int) -> dict[str, float]:
    """In the router's place, for who only publishes: empties the out stream, costing nearly nothing."""
    redis = client(url)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await redis.xtrim(topology.out(1), maxlen=0)
        await asyncio.sleep(0.0005)
    return {}


async def fill(url: str, topology: Topology, bots: int, count: int) -> dict[str, float]:
    """Out streams of some bots with so many events in all, to be routed."""
    redis = client(url)
    for bot in range(1, bots + 1):
        for start in range(0, count // bots, 500):
            async with redis.pipeline(transaction=False) as pipe:
                for n in range(start, min(start + 500, count // bots)):
                    pipe.xadd(topology.out(bot), {FIELD: encode_event(event(bot, n))})
                await pipe.execute()
    return {}


async def route(url: str, topology: Topology, bots: int, count: int) -> dict[str, float]:
    """The router over full out streams, to the log: a mailbox that nobody reads would hold it up on purpose."""
    fleet = Roster.of(dict.fromkeys(range(1, bots + 1), ()))
    ample = Allowance(time.monotonic, burst=1e15, events=1e15)
    router = Router(client(url, blocking=True), topology, lambda: fleet, allowance=ample)
    began = time.perf_counter()
    task = asyncio.create_task(router.run())
    while router.stats.routed < count:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    taken = time.perf_counter() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {"rate": count / taken}


async def route_redis_py(url: str, topology: Topology, bots: int, count: int) -> dict[str, float]:
    """The obvious way: read 100 of each stream, append them to the log in one pipeline, acknowledge."""
    redis = Redis.from_url(url)
    streams = {topology.out(bot): ">" for bot in range(1, bots + 1)}
    done, began = 0, time.perf_counter()
    while done < count:
        reply: Any = await redis.xreadgroup("router", "router", streams, count=100)
        found = reply.items() if isinstance(reply, dict) else reply
        async with redis.pipeline(transaction=True) as pipe:
            for stream, parts in found:
                entries = parts[0] if isinstance(reply, dict) and parts and isinstance(parts[0], list) else parts
                for _, fields in entries:
                    json.loads(fields[FIELD.encode()])
                    pipe.xadd("peer:log", fields)
                ids = [entry_id for entry_id, _ in entries]
                pipe.xack(stream, "router", *ids)
                pipe.xdel(stream, *ids)
                done += len(ids)
            await pipe.execute()
    return {"rate": count / (time.perf_counter() - began)}


async def consume(url: str, topology: Topology, count: int) -> dict[str, float]:
    """A bot's mailbox, read and acknowledged."""
    mailbox, done = Mailbox(client(url, blocking=True), topology, 1), 0
    began = time.perf_counter()
    while done < count:
        entries = await mailbox.read()
        await mailbox.ack([entry.id for entry in entries])
        done += len(entries)
    return {"rate": count / (time.perf_counter() - began)}


async def consume_redis_py(url: str, topology: Topology, count: int) -> dict[str, float]:
    """The obvious way: 100 at once, each decoded, one XACK for all."""
    redis, done, stream = Redis.from_url(url), 0, topology.mailbox(1)
    began = time.perf_counter()
    while done < count:
        reply: Any = await redis.xreadgroup(MAILBOX_GROUP, "bot", {stream: ">"}, count=100, block=1000)
        parts = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
        entries = parts[0] if parts and isinstance(parts[0], list) else parts
        for _, fields in entries:
            json.loads(fields[FIELD.encode()])
        await redis.xack(stream, MAILBOX_GROUP, *(entry_id for entry_id, _ in entries))
        done += len(entries)
    return {"rate": count / (time.perf_counter() - began)}


async def serve_router(url: str, topology: Topology, bots: int) -> dict[str, float]:
    """The router, as in production, until it is killed: each bot publishes `to.N` for bot N."""
    fleet = Roster.of({bot: (f"to.n{bot}",) for bot in range(1, bots + 1)})
    await Router(client(url, blocking=True), topology, lambda: fleet).run()
    return {}


async def send(url: str, topology: Topology, bots: int, rate: int, seconds: int) -> dict[str, float]:
    """All bots' relays in one process: so many events a second in all, one after the other, each to the next bot."""
    outboxes = [Outbox() for _ in range(bots)]
    relays = [Relay(client(url), topology, n + 1, outboxes[n]) for n in range(bots)]
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    began, number = time.monotonic(), 0
    while number < rate * seconds:
        due = int((time.monotonic() - began) * rate)
        while number < due:
            bot = number % bots
            outboxes[bot].put(event(bot + 1, number, f"to.n{(bot + 1) % bots + 1}"))
            relays[bot].wake()
            number += 1
        await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
    while any(outbox.rows for outbox in outboxes):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"late": time.monotonic() - began - seconds}


async def receive(url: str, topology: Topology, bots: int, count: int) -> dict[str, float]:
    """All bots' mailboxes in one process: milliseconds from the outbox of one to the hands of another."""
    taken: list[float] = []

    async def read(bot: int) -> None:
        mailbox = Mailbox(client(url, blocking=True), topology, bot)
        while True:
            entries = await mailbox.read()
            now = time.time()
            taken.extend(now - entry.event.data["at"] for entry in entries if entry.event is not None)
            await mailbox.ack([entry.id for entry in entries])

    tasks = [asyncio.create_task(read(bot + 1)) for bot in range(bots)]
    while len(taken) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    parts = statistics.quantiles(taken[count // 10 :], n=100)  # the first tenth is for connecting
    return {"p50": parts[49] * 1000, "p95": parts[94] * 1000, "p99": parts[98] * 1000, "max": max(taken) * 1000}


JOBS = {
    function.__name__: function
    for function in (
        publish,
        publish_redis_py,
        take_away,
        fill,
        route,
        route_redis_py,
        consume,
        consume_redis_py,
        serve_router,
        send,
        receive,
    )
}


if __name__ == "__main__":
    job, address, namespace, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(JOBS[job](address, Topology(namespace), *map(int, numbers)))))  # type: ignore[operator]
