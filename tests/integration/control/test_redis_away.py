"""Redis is away while bots publish, and comes back with its data, then empty: nothing is lost, order is kept."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from botctl.bus.client import AWAY, connect
from botctl.bus.events import Log
from botctl.bus.topology import Topology
from botctl.embedded.valkey import prepare_valkey
from botctl.storage.engine import connect as connect_database
from botctl.storage.url import format_database_url
from support.fleet_stage import eventually
from support.redis_away import Account, Bot, Control, account, hashed, publish, run_bot, run_control

BOTS, EVENTS = (91_001, 91_002, 91_003), 1_500


class Server:
    """A Valkey that can be ended and started again, on its data or without."""

    def __init__(self, folder: Path, start: Callable[..., Any]) -> None:
        self._made = prepare_valkey(folder)
        self._data = folder / "data" / "appendonlydir"
        self._start = start
        self.url = self._made.admin_url
        self._running: Any = start(self._made.spec, self.url)

    def end(self) -> None:
        self._running.stop(9)

    def begin(self, *, empty: bool) -> None:
        if empty:
            shutil.rmtree(self._data)
        self._running = self._start(self._made.spec, self.url)


@pytest.fixture
def server(server_files: Path, running_server: Callable[..., Any]) -> Iterator[Server]:
    made = Server(server_files / "valkey", running_server)
    yield made
    made.end()


async def whole(redis: Redis, namespace: str, expected: dict[int, int]) -> Account:
    """What the log has once it has as many events as there are, or after 40 s."""

    async def complete() -> bool:
        with contextlib.suppress(*AWAY):
            return int(await redis.xlen(Topology(namespace).log(Log.BOT))) >= sum(expected.values())
        return False

    with contextlib.suppress(AssertionError):
        await eventually(complete, timeout=40)
    return await account(redis, namespace, expected)


async def test_what_was_published_while_redis_was_away_comes_in_order_also_to_an_empty_one(
    database: Any, server: Server
) -> None:
    namespace = f"t{secrets.token_hex(4)}"
    bots = []
    admin = await connect_database(database.admin)
    for bot_id in BOTS:
        await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", bot_id, f"bot-{bot_id}")
        login = format_database_url(await database.add_bot(bot_id))
        bots.append(Bot(bot_id, login, server.url, namespace, secrets.token_urlsafe(16)))
    await admin.close()
    control = Control(
        format_database_url(database.control),
        server.url,
        namespace,
        {str(bot.bot_id): hashed(bot.password) for bot in bots},
    )
    tasks = [asyncio.create_task(work) for work in (run_control(control), *map(run_bot, bots))]
    redis = connect(server.url)
    try:
        for bot in bots:
            await publish(bot, 0, 100)
        assert (await whole(redis, namespace, dict.fromkeys(BOTS, 100))).found == 300
        server.end()
        for bot in bots:
            await publish(bot, 100, EVENTS)
        server.begin(empty=False)
        expected = dict.fromkeys(BOTS, EVENTS + 100)
        back = await whole(redis, namespace, expected)
        assert (back.found, back.missing, back.twice, back.disordered) == (sum(expected.values()), 0, 0, 0)

        server.end()
        server.begin(empty=True)
        again = await whole(redis, namespace, expected)
        assert (again.found, again.missing, again.twice, again.disordered) == (sum(expected.values()), 0, 0, 0)
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await redis.aclose()
