"""Calls held in the uncertain gap, answers harmed on their way, updates twice and out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from telegram import Bot
from telegram.error import BadRequest, ChatMigrated, NetworkError, TelegramError, TimedOut

from botctl.sandbox.client import SandboxClient, SandboxError

CHAT = 42
Until = Callable[..., Awaitable[None]]


async def _texts(operator: SandboxClient, bot: Bot) -> list[str]:
    return [line["text"] for line in await operator.transcript(bot.id, CHAT)]


@pytest.fixture(autouse=True)
async def _known(operator: SandboxClient, bot: Bot) -> None:
    await operator.set_chat(bot.id, CHAT)


@pytest.mark.parametrize(("when", "seen"), [("before", []), ("after", ["hi"])])
async def test_a_held_call_is_answered_when_it_is_released(
    bot: Bot, operator: SandboxClient, when: str, seen: list[str]
) -> None:
    fault = await operator.inject_fault("sendMessage", bot_id=bot.id, hold=True, when=when)
    send = asyncio.create_task(bot.send_message(CHAT, "hi"))
    (held,) = await operator.held(fault, count=1, wait=5)
    assert (held["method"], held["effect"], held["chat_id"]) == ("sendMessage", when == "after", CHAT)
    assert await _texts(operator, bot) == seen
    assert not send.done()
    assert await operator.release(fault) == 1
    assert (await asyncio.wait_for(send, 5)).text == "hi"
    assert await _texts(operator, bot) == ["hi"]
    assert await operator.held(fault) == []


@pytest.mark.parametrize("drop", [False, True])
async def test_a_call_whose_client_died_takes_effect_when_released_unless_it_is_dropped(
    bot: Bot, operator: SandboxClient, until: Until, drop: bool
) -> None:
    fault = await operator.inject_fault("sendMessage", bot_id=bot.id, hold=True)
    async with aiohttp.ClientSession() as session:
        call = asyncio.create_task(session.post(f"{bot.base_url}/sendMessage", json={"chat_id": CHAT, "text": "hi"}))
        await operator.held(fault, count=1, wait=5)
        call.cancel()

    async def gone() -> bool:
        return [one["client_gone"] for one in await operator.held(fault)] == [True]

    await until(gone)
    assert await operator.release(fault, drop=drop) == 1

    async def logged() -> bool:
        return len(await operator.calls(method="sendMessage", bot_id=bot.id)) == 1

    await until(logged)
    assert await _texts(operator, bot) == ([] if drop else ["hi"])


async def test_a_dropped_call_ends_with_its_connection(bot: Bot, operator: SandboxClient) -> None:
    fault = await operator.inject_fault("sendMessage", bot_id=bot.id, hold=True, when="after")
    send = asyncio.create_task(bot.send_message(CHAT, "hi"))
    await operator.held(fault, count=1, wait=5)
    await operator.release(fault, drop=True)
    with pytest.raises(NetworkError):
        await asyncio.wait_for(send, 5)
    assert await _texts(operator, bot) == ["hi"]


async def test_a_hold_may_end_with_another_call_and_when_its_fault_is_dropped(
    bot: Bot, operator: SandboxClient
) -> None:
    fault = await operator.inject_fault("sendMessage", bot_id=bot.id, hold=True, release_on="getMe")
    send = asyncio.create_task(bot.send_message(CHAT, "one"))
    await operator.held(fault, count=1, wait=5)
    await bot.get_me()
    await asyncio.wait_for(send, 5)
    fault = await operator.inject_fault("sendMessage", bot_id=bot.id, hold=True, times=None)
    send = asyncio.create_task(bot.send_message(CHAT, "two"))
    await operator.held(fault, count=1, wait=5)
    await operator.clear_faults(fault)
    await asyncio.wait_for(send, 5)
    with pytest.raises(SandboxError, match="hold_id"):
        await operator._call("POST", f"/faults/{fault}/release", {"hold_id": "x"})


async def test_answers_that_are_harmed_on_their_way(bot: Bot, operator: SandboxClient) -> None:
    for harm, error in (
        ({"cut_body": True}, NetworkError),
        ({"malformed": True}, TelegramError),
        ({"hang": True, "when": "after"}, TimedOut),
    ):
        await operator.inject_fault("sendMessage", bot_id=bot.id, **harm)
        with pytest.raises(error):
            await bot.send_message(CHAT, next(iter(harm)), read_timeout=0.3)
    assert await _texts(operator, bot) == ["cut_body", "malformed", "hang"]
    await operator.inject_fault("sendMessage", bot_id=bot.id, migrate_to_chat_id=-1009)
    with pytest.raises(ChatMigrated) as moved:
        await bot.send_message(CHAT, "x")
    assert moved.value.new_chat_id == -1009
    await operator.inject_fault("sendMessage", bot_id=bot.id, status=400, description="Bad Request: no")
    with pytest.raises(BadRequest, match="No"):
        await bot.send_message(CHAT, "x")


async def test_updates_come_twice_again_and_out_of_order(bot: Bot, operator: SandboxClient) -> None:
    said = [await operator.say(bot.id, CHAT, str(number)) for number in range(3)]
    ids = [one.update_id or 0 for one in said]

    async def polled(offset: int = 0, **fault: object) -> list[int]:
        if fault:
            await operator.inject_fault("getUpdates", bot_id=bot.id, **fault)
        return [update.update_id for update in await bot.get_updates(offset=offset)]

    assert await polled(updates="twice") == [one for one in ids for _ in range(2)]
    assert await polled(updates="reversed") == ids[::-1]
    assert sorted(await polled(updates="shuffled", seed=1)) == ids
    assert await polled(updates="again") == ids
    assert await polled(ids[-1] + 1) == ids
    assert await polled(ids[-1] + 1) == []
