"""Both emulators as a process of their own, and clients of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count

import pytest
from telegram import Bot
from telegram.request import HTTPXRequest

from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess, start_sandbox

_numbers = count(5_000_001)


@pytest.fixture
def start() -> Iterator[Callable[..., SandboxProcess]]:
    """Start emulators of one's own; they end with the test."""
    started: list[SandboxProcess] = []

    def begin(*arguments: str) -> SandboxProcess:
        started.append(start_sandbox(*arguments))
        return started[-1]

    yield begin
    for servers in started:
        servers.stop()


@pytest.fixture(scope="session")
def servers() -> Iterator[SandboxProcess]:
    """Emulators shared by all tests; every test has a bot of its own."""
    running = start_sandbox("--refused-key", "sk-refused-0000000001")
    yield running
    running.stop()


@pytest.fixture
async def operator(servers: SandboxProcess) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(servers.telegram) as client:
        yield client
        await client.clear_faults()
        await client.set_limits(flood="off", chat_rate=1.0, callback_lifetime=30.0, webhook_pace=1.0)


@pytest.fixture
async def completion_operator(servers: SandboxProcess) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(servers.completion) as client:
        yield client
        await client.clear_faults()


@pytest.fixture
def bot_at(servers: SandboxProcess) -> Callable[[str], Bot]:
    """A bot of a token as python-telegram-bot sees it, not yet initialized."""

    def make(token: str) -> Bot:
        return Bot(
            token,
            base_url=f"{servers.telegram}/bot",
            base_file_url=f"{servers.telegram}/file/bot",
            request=HTTPXRequest(connection_pool_size=8),
            get_updates_request=HTTPXRequest(connection_pool_size=8),
        )

    return make


@pytest.fixture
def token() -> str:
    return f"{next(_numbers)}:secret-of-the-bot"


@pytest.fixture
async def bot(bot_at: Callable[[str], Bot], operator: SandboxClient, token: str) -> AsyncIterator[Bot]:
    """A registered bot."""
    await operator.register_bot(token, first_name="Nora", username=f"nora_{token.split(':')[0]}_bot")
    async with bot_at(token) as made:
        yield made


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for an asynchronous condition, at most 10 s."""

    async def wait(condition: Callable[..., Awaitable[bool]], *arguments: object) -> None:
        deadline = time.monotonic() + 10
        while not await condition(*arguments):
            assert time.monotonic() < deadline, f"{condition.__name__} did not come true"
            await asyncio.sleep(0.01)

    return wait
