"""Webhooks: delivery, order, retries, answers that call methods, the way back to polling, faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from telegram import Bot
from telegram.error import BadRequest, Conflict

from botctl.sandbox.client import SandboxClient

CHAT = 42
Until = Callable[..., Awaitable[None]]


@dataclass
class Hook:
    """A webhook's server: what it got, and what it answers."""

    url: str = ""
    got: list[tuple[int, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Answered in turn; 200 when there are none left."""
    answer: dict[str, Any] | None = None
    gate: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        update = json.loads(await request.read())
        self.secrets.append(request.headers.get("X-Telegram-Bot-Api-Secret-Token"))
        self.times.append(time.monotonic())
        status = self.statuses.pop(0) if self.statuses else 200
        if self.gate is not None:
            await self.gate.wait()
        self.got.append((update["update_id"], update.get("message", {}).get("text", "")))
        return web.json_response(self.answer or {}, status=status)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.got]


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
async def _quick(operator: SandboxClient) -> None:
    await operator.set_limits(webhook_pace=0.01)


async def _pending(bot: Bot) -> int:
    return (await bot.get_webhook_info()).pending_update_count


async def test_updates_are_delivered_in_order_with_the_secret(
    bot: Bot, operator: SandboxClient, hook: Hook, until: Until
) -> None:
    await operator.say_many(bot.id, [(CHAT, str(number)) for number in range(20)])
    await bot.set_webhook(hook.url, secret_token="s3cret-_x", max_connections=7, allowed_updates=["message"])
    await operator.say(bot.id, CHAT, "20")

    async def all_here() -> bool:
        return len(hook.got) == 21

    await until(all_here)
    assert hook.texts == [str(number) for number in range(21)]
    assert set(hook.secrets) == {"s3cret-_x"}
    info = await bot.get_webhook_info()
    assert (info.url, info.max_connections, info.allowed_updates) == (hook.url, 7, ("message",))
    with pytest.raises(Conflict, match="webhook is active"):
        await bot.get_updates()


async def test_what_is_refused_stays_and_is_tried_again(
    bot: Bot, operator: SandboxClient, hook: Hook, until: Until
) -> None:
    hook.statuses = [500, 503, 500]
    await bot.set_webhook(hook.url)
    await operator.say_many(bot.id, [(CHAT, "one"), (CHAT, "two")])

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    assert hook.texts == ["one"] * 4 + ["two"]
    info = await bot.get_webhook_info()
    assert info.last_error_message == "Wrong response from the webhook: 500 Internal Server Error"
    assert info.last_error_date is not None


async def test_the_pauses_between_attempts_double(bot: Bot, operator: SandboxClient, hook: Hook, until: Until) -> None:
    await operator.set_limits(webhook_pace=0.1)
    hook.statuses = [500] * 4
    await bot.set_webhook(hook.url)
    await operator.say(bot.id, CHAT, "hi")

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    pauses = [later - earlier for earlier, later in pairwise(hook.times)]
    assert len(pauses) == 4
    assert pauses[0] < 0.2
    assert all(pause >= least for pause, least in zip(pauses[1:], (0.2, 0.4, 0.8), strict=True))


async def test_a_slow_chat_holds_up_nobody_else_and_connections_are_limited(
    bot: Bot, operator: SandboxClient, hook: Hook, until: Until
) -> None:
    hook.gate = asyncio.Event()
    await bot.set_webhook(hook.url, max_connections=2)
    await operator.say_many(bot.id, [(CHAT, "a1"), (CHAT, "a2"), (CHAT + 1, "b1"), (CHAT + 2, "c1")])

    async def two_open() -> bool:
        return len(hook.secrets) == 2

    await until(two_open)
    assert await _pending(bot) == 4
    hook.gate.set()

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    assert sorted(hook.texts[:2]) == ["a1", "b1"]
    assert hook.texts.index("a1") < hook.texts.index("a2")


async def test_nobody_listening_keeps_updates_for_polling(bot: Bot, operator: SandboxClient, until: Until) -> None:
    await bot.set_webhook("http://127.0.0.1:9/nobody")
    await operator.say(bot.id, CHAT, "hi")

    async def failed() -> bool:
        return (await bot.get_webhook_info()).last_error_message == "Connection refused"

    await until(failed)
    assert await _pending(bot) == 1
    await bot.delete_webhook()
    assert [update.message.text for update in await bot.get_updates() if update.message] == ["hi"]


async def test_an_answer_may_call_a_method(bot: Bot, operator: SandboxClient, hook: Hook, until: Until) -> None:
    hook.answer = {"method": "sendMessage", "chat_id": CHAT, "text": "by return"}
    await bot.set_webhook(hook.url)
    await operator.say(bot.id, CHAT, "hi")

    async def answered() -> bool:
        return [line["text"] for line in await operator.transcript(bot.id, CHAT)] == ["hi", "by return"]

    await until(answered)
    hook.answer = {"method": "deleteWebhook"}
    await operator.say(bot.id, CHAT, "hi again")

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    assert (await bot.get_webhook_info()).url == hook.url


async def test_wrong_webhooks_are_refused(bot: Bot) -> None:
    with pytest.raises(BadRequest, match="an https url must be provided"):
        await bot.set_webhook("http://example.com/hook")
    with pytest.raises(BadRequest, match="Secret token contains unallowed characters"):
        await bot.set_webhook("https://example.com/hook", secret_token="no blanks")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 502}, ["one", "two", "three"]),
        ({"cut": True, "when": "after"}, ["one", "one", "two", "three"]),
        ({"updates": "twice"}, ["one", "one", "two", "three"]),
        ({"updates": "again"}, ["one", "two", "three", "one"]),
        ({"updates": "reversed"}, ["three", "one", "two"]),
        ({"delay": 0.05}, ["one", "two", "three"]),
    ],
)
async def test_faults_apply_to_deliveries(
    bot: Bot, operator: SandboxClient, hook: Hook, until: Until, fault: dict[str, Any], expected: list[str]
) -> None:
    await operator.inject_fault("webhook", bot_id=bot.id, **fault)
    await operator.say_many(bot.id, [(CHAT, "one"), (CHAT, "two"), (CHAT, "three")])
    await bot.set_webhook(hook.url)

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    assert hook.texts == expected


async def test_a_delivery_can_be_held(bot: Bot, operator: SandboxClient, hook: Hook, until: Until) -> None:
    fault = await operator.inject_fault("webhook", bot_id=bot.id, hold=True)
    await bot.set_webhook(hook.url)
    await operator.say_many(bot.id, [(CHAT, "held"), (CHAT + 1, "free")])
    (held,) = await operator.held(fault, count=1, wait=5)
    assert (held["method"], held["chat_id"]) == ("webhook", CHAT)

    async def other_here() -> bool:
        return hook.texts == ["free"]

    await until(other_here)
    await operator.release(fault)

    async def done() -> bool:
        return await _pending(bot) == 0

    await until(done)
    assert hook.texts == ["free", "held"]
