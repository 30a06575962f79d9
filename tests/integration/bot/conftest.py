"""Bots as real processes, forked from a warm forkserver, against PostgreSQL, Valkey and the emulators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from botctl.bus.client import connect as connect_redis
from botctl.bus.events import Event, decode_event
from botctl.bus.topology import FIELD, Topology
from botctl.sandbox.process import SandboxProcess, start_sandbox
from support.bot_process import BotUnderTest, bot_maker, warm_forkserver


@pytest.fixture(scope="session")
def forkserver() -> Any:
    return warm_forkserver()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    running = start_sandbox("--any-chat")
    yield running
    running.stop()


@pytest.fixture
async def redis(valkey_admin_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(valkey_admin_url)
    yield client
    await client.aclose()


@pytest.fixture
async def new_bot(
    forkserver: Any, sandbox: SandboxProcess, valkey_admin_url: str, redis: Redis, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[BotUnderTest]]]:
    """Makes bots with a database login, a Redis user and a token; their processes end with the test."""
    numbers = count()
    async with bot_maker(forkserver, sandbox, redis, valkey_admin_url) as maker:

        async def make(database: Any) -> BotUnderTest:
            return await maker.make(database, tmp_path / f"bot-{next(numbers)}.log")

        yield make


@pytest.fixture
async def bot(new_bot: Callable[..., Awaitable[BotUnderTest]], database: Any) -> BotUnderTest:
    return await new_bot(database)


@pytest.fixture
def published(redis: Redis) -> Callable[[BotUnderTest], Awaitable[list[Event]]]:
    """The events in a bot's out stream."""

    async def read(bot: BotUnderTest) -> list[Event]:
        entries: Any = await redis.xrange(Topology("test").out(bot.bot_id))
        return [decode_event(fields[FIELD.encode()]) for _, fields in entries]

    return read
