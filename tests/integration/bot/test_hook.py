"""A bot's side of its webhook against the emulator of Telegram: set when it has to be, and only then."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from botctl.bot.receiving.arrivals import Arrivals
from botctl.bot.receiving.hook import Hook
from botctl.bot.receiving.token_refusal import BadTokenError
from botctl.bot.receiving.updates import ALLOWED_UPDATES
from botctl.bot.sending.transport import Transport
from botctl.bot.tls import tls_context
from botctl.bot.vitals.health import Health
from botctl.handover import WebhookTarget
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess, start_sandbox
from support.stack import eventually

_numbers = itertools.count(8_700_001)


@pytest.fixture(scope="module")
def servers() -> Iterator[SandboxProcess]:
    running = start_sandbox()
    yield running
    running.stop()


@pytest.fixture
async def telegram(servers: SandboxProcess) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(servers.telegram) as client:
        yield client
        await client.clear_faults()


class Side:
    """One bot at the emulator, and hooks for it."""

    def __init__(self, root: str, telegram: SandboxClient) -> None:
        self.bot_id = next(_numbers)
        self.telegram = telegram
        self.url = f"{root.rstrip('/')}/bot{self.bot_id}:secret-of-the-bot"
        self.health = Health()
        self.ready = 0
        # Nobody listens there; nothing is sent to the bot.
        self.target = WebhookTarget(url=f"http://127.0.0.1:9/{self.bot_id}?v=one", secret="s1", max_connections=7)

    def on_ready(self) -> None:
        self.ready += 1

    @asynccontextmanager
    async def hook(self, **more: Any) -> AsyncIterator[tuple[Hook, asyncio.Task[None]]]:
        transport = Transport(tls_context())
        transport.open()
        arrivals = Arrivals(self.health, time.monotonic)
        made = Hook(
            transport, self.url, more.pop("target", self.target), self.health, arrivals,
            on_ready=self.on_ready, clock=time.monotonic, **more,
        )  # fmt: skip
        task = asyncio.create_task(made.run())
        try:
            yield made, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await transport.close()

    async def info(self) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            found: dict[str, Any] = (await client.get(f"{self.url}/getWebhookInfo")).json()["result"]
            return found

    async def ask(self, method: str, **data: str) -> None:
        async with httpx.AsyncClient() as client:
            (await client.post(f"{self.url}/{method}", data=data)).raise_for_status()

    async def looks(self) -> int:
        return len(await self.telegram.calls(bot_id=self.bot_id, method="getWebhookInfo"))

    async def sets(self) -> int:
        return len(await self.telegram.calls(bot_id=self.bot_id, method="setWebhook"))


@pytest.fixture
async def side(servers: SandboxProcess, telegram: SandboxClient) -> Side:
    made = Side(servers.telegram, telegram)
    await telegram.register_bot(f"{made.bot_id}:secret-of-the-bot")
    return made


async def test_it_is_set_once_and_left_alone_at_the_next_start(side: Side) -> None:
    for start in (1, 2):
        async with side.hook():
            await eventually(lambda start=start: side.ready == start, "ready")
    info = await side.info()
    assert (info["url"], info["max_connections"]) == (side.target.url, 7)
    assert set(info["allowed_updates"]) == set(ALLOWED_UPDATES)
    assert await side.sets() == 1
    assert not side.health.degraded


async def test_what_waits_at_telegram_is_not_dropped(side: Side) -> None:
    await side.telegram.say(side.bot_id, 5, "before")
    async with side.hook():
        await eventually(lambda: side.ready, "ready")
        assert (await side.info())["pending_update_count"] == 1


@pytest.mark.parametrize("deed", ["deleteWebhook", "setWebhook"])
async def test_one_that_somebody_has_taken_away_or_changed_is_set_again(side: Side, deed: str) -> None:
    async with side.hook(every=0.05):
        await eventually(lambda: side.ready, "ready")
        await side.ask(deed, **({"url": "http://127.0.0.1:9/elsewhere"} if deed == "setWebhook" else {}))

        async def again() -> bool:
            return bool((await side.info())["url"] == side.target.url)

        await eventually(again, "it is set again")
    assert side.ready == 1


async def test_another_target_is_told_to_telegram_at_once(side: Side) -> None:
    async with side.hook() as (hook, _):
        await eventually(lambda: side.ready, "ready")
        changed = msgspec.structs.replace(
            side.target, url=side.target.url.replace("one", "two"), secret="s2", certificate="PEM"
        )
        assert hook.take(msgspec.to_builtins(changed))
        assert not hook.take(msgspec.to_builtins(changed))
        assert not hook.take(None)

        async def told() -> bool:
            info = await side.info()
            return bool(info["url"] == changed.url and info["has_custom_certificate"])

        await eventually(told, "Telegram has the other one")


async def test_without_a_target_it_waits_and_says_so(side: Side) -> None:
    async with side.hook(target=None) as (hook, _):
        await eventually(lambda: "waits to be told" in side.health.reason, "it says so")
        hook.take(msgspec.to_builtins(side.target))
        await eventually(lambda: side.ready, "ready")
    assert not side.health.degraded


async def test_it_waits_as_long_as_telegram_says(side: Side) -> None:
    await side.telegram.inject_fault("setWebhook", bot_id=side.bot_id, status=429, retry_after=1)
    async with side.hook() as (hook, _):
        await eventually(lambda: hook.held > 0, "it is held")
        assert "asks us to wait" in side.health.reason
        await eventually(lambda: side.ready, "ready")
    assert not side.health.degraded


async def test_a_refusal_is_told_and_tried_again(side: Side) -> None:
    await side.telegram.inject_fault(
        "setWebhook", bot_id=side.bot_id, status=400, description="Bad Request: bad webhook: no route to host"
    )
    async with side.hook():
        await eventually(lambda: "no route to host" in side.health.reason, "it says so")
        assert not side.ready
        await eventually(lambda: side.ready, "ready")


async def test_a_token_that_is_refused_ends_it(side: Side) -> None:
    await side.telegram.remove_bot(side.bot_id)
    async with side.hook() as (_, task):
        with pytest.raises(BadTokenError):
            await asyncio.wait_for(asyncio.shield(task), 10)


async def test_what_telegram_can_not_deliver_is_said(side: Side) -> None:
    async with side.hook(every=0.05):
        await eventually(lambda: side.ready, "ready")
        await side.telegram.say(side.bot_id, 5, "nobody hears")
        await eventually(lambda: "can't deliver updates" in side.health.reason, "it says so")


async def test_it_takes_updates_only_as_long_as_none_waits_at_telegram(side: Side) -> None:
    """By `last_poll` a bot is parked, or not."""
    async with side.hook(every=0.02) as (hook, _):
        await eventually(lambda: side.ready, "ready")
        began = hook.last_poll
        await eventually(lambda: hook.last_poll > began, "none waits")
        await side.telegram.say(side.bot_id, 5, "nobody hears")
        await eventually(lambda: "can't deliver updates" in side.health.reason, "Telegram has tried")
        last, looks = hook.last_poll, await side.looks()

        async def looked() -> bool:
            return await side.looks() > looks + 3

        await eventually(looked, "it has looked again and again")
        assert hook.last_poll == last
        await side.ask("deleteWebhook", drop_pending_updates="true")
        await eventually(lambda: hook.last_poll > last, "none waits any more")
