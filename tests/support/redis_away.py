"""Redis away under load: bots' relays over real outboxes, control's keeper, router and resender, and the account after.

Each part can run as a task, or as a process of its own: `python redis_away.py bot|control`, with its config on standard
input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.exchange.publishing import event_of
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.identity import Loss
from botctl.bus.client import connect
from botctl.bus.events import Event, Log, event_id
from botctl.bus.reading.reader import read_log
from botctl.bus.relay import Relay
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.control.bus.keeper import BusKeeper
from botctl.control.bus.resender import Resender
from botctl.control.fleet.wanted import without_userinfo
from botctl.storage.engine import login_engine
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.url import parse_database_url

PAGE = 1_000


@dataclass(frozen=True)
class Bot:
    """One of them, with its logins."""

    bot_id: int
    database_url: str
    redis_url: str
    namespace: str
    password: str


@dataclass(frozen=True)
class Control:
    """Control's part: `hashes` by bot_id as text; `keeps_users`: the server's own file has its users."""

    database_url: str
    redis_url: str
    namespace: str
    hashes: dict[str, str]
    keeps_users: bool = False


@dataclass(frozen=True)
class _Row:
    seq: int
    event: Event


class _Port:
    """The outbox in the database, as the relay wants it."""

    def __init__(self, engine: AsyncEngine, bot_id: int) -> None:
        self._engine, self._outbox = engine, Outbox(bot_id)

    async def pending(self, limit: int) -> Sequence[_Row]:
        """The oldest rows not relayed."""
        async with self._engine.connect() as connection:
            return [_Row(one.seq, event_of(one)) for one in await self._outbox.pending(connection, limit)]

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """These are in the out stream."""
        async with self._engine.begin() as connection:
            await self._outbox.mark_relayed(connection, seqs)


async def run_bot(bot: Bot) -> None:
    """Relay until cancelled."""
    topology = Topology(bot.namespace)
    engine = login_engine(parse_database_url(bot.database_url), pool_size=2)
    redis = connect(
        without_userinfo(bot.redis_url), username=topology.user(bot.bot_id), passwords=lambda: (bot.password,)
    )
    try:
        await Relay(redis, topology, bot.bot_id, _Port(engine, bot.bot_id)).run()
    finally:
        await redis.aclose()
        await engine.dispose()


async def run_control(control: Control) -> None:
    """Keep Redis, route, have relayed again what was lost, until cancelled."""
    topology = Topology(control.namespace)
    engine = login_engine(parse_database_url(control.database_url), pool_size=2)
    redis, streams = connect(control.redis_url), connect(control.redis_url, blocking=True, steadfast=True)
    resender = Resender(engine, lambda: None)
    roster = Roster.of({int(bot_id): () for bot_id in control.hashes})

    async def recover(loss: Loss) -> None:
        router.forget()
        await resender.recover(loss, redis, topology)

    keeper = BusKeeper(BusAdmin(redis, topology, keeps_users=control.keeps_users), recover=recover)
    router = Router(
        streams,
        topology,
        lambda: roster,
        on_lost=lambda bot_id, seconds: resender.lost(seconds, bot_id),
        gate=keeper.gate,
        server=lambda: keeper.settled,
        on_stranger=keeper.look_now,
    )
    keeper.load({int(bot_id): hashed for bot_id, hashed in control.hashes.items()})
    tasks = [asyncio.create_task(work) for work in (keeper.run(), router.run(), resender.run())]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (redis, streams):
            await client.aclose()
        await engine.dispose()


def hashed(password: str) -> str:
    """What Redis keeps of it."""
    return hashlib.sha256(password.encode()).hexdigest()


async def publish(bot: Bot, first: int, count: int) -> None:
    """So many events committed to the outbox of a bot, in order of `n`."""
    engine, outbox = login_engine(parse_database_url(bot.database_url), pool_size=1), Outbox(bot.bot_id)
    try:
        for start in range(first, first + count, PAGE):
            rows = [
                StoredEvent(
                    event_id=event_id(bot.bot_id, "away", n),
                    type="shop.paid",
                    version=1,
                    occurred_at=time.time(),
                    correlation_id="0123456789abcdef",
                    causation_id=f"update:{n}",
                    data={"n": n, "text": "words of a message, some hundred bytes of them: " + "x" * 80},
                )
                for n in range(start, min(start + PAGE, first + count))
            ]
            async with engine.begin() as connection:
                await outbox.add(connection, rows)
    finally:
        await engine.dispose()


@dataclass
class Account:
    """What the log has of all bots' events: `missing` of the expected ones, those there twice, those out of order."""

    found: int = 0
    missing: int = 0
    twice: int = 0
    disordered: int = 0
    by_bot: dict[int, int] = field(default_factory=dict)


async def account(redis: Redis, namespace: str, expected: dict[int, int]) -> Account:
    """Read the whole log. `expected`: how many events of each bot there are, numbered from 0."""
    topology, seen, last = Topology(namespace), {bot: set[int]() for bot in expected}, dict.fromkeys(expected, -1)
    made = Account()
    async for _, event in read_log(redis, topology, Log.BOT):
        bot, number = int(event.source.removeprefix("bot:")), int(event.data["n"])
        made.found += 1
        if number in seen[bot]:
            made.twice += 1
            continue
        seen[bot].add(number)
        made.disordered += number < last[bot]
        last[bot] = max(last[bot], number)
    made.by_bot = {bot: len(numbers) for bot, numbers in seen.items()}
    made.missing = sum(count - made.by_bot[bot] for bot, count in expected.items())
    return made


def config(part: Bot | Control) -> str:
    """For a process of its own."""
    return json.dumps(asdict(part))


if __name__ == "__main__":
    (kind,) = sys.argv[1:]
    told: dict[str, Any] = json.load(sys.stdin)
    asyncio.run(run_bot(Bot(**told)) if kind == "bot" else run_control(Control(**told)))
