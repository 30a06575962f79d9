"""The deafness probe against the real emulator of Telegram, with a double in the supervisor's place."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import aiohttp
import pytest
import structlog.testing

from botctl.control.ports import BotSight, FleetSight
from botctl.control.watching.hearing import HearingProbe, options_of
from botctl.fleet import BotSpec
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess, start_sandbox

_numbers = count(6_000_001)


class SupervisorDouble:
    """Shows bots whose last commit is `committed` (monotonic), and notes what it is told."""

    def __init__(self) -> None:
        self.sights: dict[int, BotSight] = {}
        self.committed: dict[int, float] = {}
        self.told: list[tuple[int, bool, str]] = []
        self.asked = 0

    def add(self, bot: BotSpec) -> None:
        self.sights[bot.bot_id] = BotSight(name=bot.name, bot_id=bot.bot_id, state="running", incarnation=1)
        self.committed[bot.bot_id] = time.monotonic()

    def hear(self, bot_id: int, deaf: bool, reason: str = "") -> None:
        self.told.append((bot_id, deaf, reason))

    async def sight(self) -> FleetSight:
        self.asked += 1
        now = time.monotonic()
        bots = tuple(
            replace(
                bot,
                heartbeat_age=0.0,
                gauges={**bot.gauges, "last_commit_age_s": now - self.committed[bot_id]},
            )
            for bot_id, bot in self.sights.items()
        )
        return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=bots)


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


@pytest.fixture
def supervisor() -> SupervisorDouble:
    return SupervisorDouble()


@pytest.fixture
async def new_bot(telegram: SandboxClient, supervisor: SupervisorDouble) -> Callable[..., Any]:
    async def make(**more: Any) -> BotSpec:
        number = next(_numbers)
        bot = BotSpec.model_validate({"name": f"b{number}", "token": f"{number}:secret-of-the-bot", **more})
        await telegram.register_bot(bot.token.get_secret_value())
        supervisor.add(bot)
        return bot

    return make


@contextlib.asynccontextmanager
async def probing(
    servers: SandboxProcess, supervisor: Any, *bots: BotSpec, **options: float
) -> AsyncIterator[HearingProbe]:
    given: dict[str, float] = {"interval": 0.25, "patience": 0.4, **options}
    probe = HearingProbe(lambda: bots, supervisor, servers.telegram, **given)
    task = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def eventually(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def confirm_all(servers: SandboxProcess, bot: BotSpec) -> None:
    """What a poller does: take everything, and acknowledge it."""
    url = f"{servers.telegram}/bot{bot.token.get_secret_value()}/getUpdates"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data={"timeout": 0}) as response:
            last = (await response.json())["result"][-1]["update_id"]
        async with session.post(url, data={"timeout": 0, "offset": last + 1}) as response:
            assert (await response.json())["result"] == []


async def test_a_bot_that_takes_nothing_is_deaf_until_it_takes_what_waits(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    deaf, well = await new_bot(), await new_bot()
    async with probing(servers, supervisor, deaf, well) as probe:
        await eventually(lambda: len(supervisor.told) == 2, "both hear at first")
        assert {(bot_id, word) for bot_id, word, _ in supervisor.told} == {(deaf.bot_id, False), (well.bot_id, False)}
        supervisor.told.clear()
        for number in range(3):
            await telegram.say(deaf.bot_id, 5, f"Are you there? {number}")
        said = re.compile(r"3 updates wait at Telegram, none was committed for \d+ s")
        await eventually(
            lambda: sum(bool(said.fullmatch(reason)) for _, _, reason in supervisor.told) >= 2, "told, and told again"
        )
        assert {(bot_id, word) for bot_id, word, _ in supervisor.told} == {(deaf.bot_id, True)}
        assert probe.pending == {deaf.bot_id: 3, well.bot_id: 0}
        await confirm_all(servers, deaf)
        supervisor.committed[deaf.bot_id] = time.monotonic()
        await eventually(lambda: supervisor.told[-1] == (deaf.bot_id, False, ""), "it hears again")
        await eventually(lambda: probe.pending[deaf.bot_id] == 0, "and nothing waits")


async def test_what_is_delivered_and_not_confirmed_still_waits_at_telegram(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    bot = await new_bot()
    await telegram.say(bot.bot_id, 5, "Hello?")
    url = f"{servers.telegram}/bot{bot.token.get_secret_value()}/getUpdates"
    async with aiohttp.ClientSession() as session, session.post(url, data={"timeout": 0}) as response:
        assert len((await response.json())["result"]) == 1
    async with probing(servers, supervisor, bot) as probe:
        await eventually(lambda: any(word for _, word, _ in supervisor.told), "it never acknowledged")
        assert probe.pending == {bot.bot_id: 1}


async def test_a_bot_that_is_slow_but_commits_is_not_deaf(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    bot = await new_bot()
    await telegram.say(bot.bot_id, 5, "One of many")
    async with probing(servers, supervisor, bot) as probe:
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            supervisor.committed[bot.bot_id] = time.monotonic()
            await asyncio.sleep(0.02)
        assert probe.pending == {bot.bot_id: 1}
    assert supervisor.told == [(bot.bot_id, False, "")]


async def test_a_bot_that_was_paused_between_two_probes_is_not_deaf(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    bot = await new_bot()
    await telegram.say(bot.bot_id, 5, "Wait for the database")

    async def asked() -> int:
        return len(await telegram.calls(method="getWebhookInfo", bot_id=bot.bot_id))

    async def wait_for(count: int) -> None:
        deadline = time.monotonic() + 10
        while await asked() < count:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async with probing(servers, supervisor, bot, interval=1.2):
        await eventually(lambda: supervisor.asked > 0, "under suspicion")
        supervisor.sights[bot.bot_id] = replace(supervisor.sights[bot.bot_id], state="paused")
        seen = supervisor.asked
        await eventually(lambda: supervisor.asked > seen, "a glance")
        supervisor.sights[bot.bot_id] = replace(supervisor.sights[bot.bot_id], state="running")
        assert await asked() == 1, "too slow a machine for this test"
        await wait_for(2)
        seen = supervisor.asked
        await eventually(lambda: supervisor.asked >= seen + 1, "judged")
        assert supervisor.told == []
        await eventually(lambda: bool(supervisor.told), "but later it is")


async def test_a_webhook_is_why(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    bot = await new_bot()
    url = f"{servers.telegram}/bot{bot.token.get_secret_value()}/setWebhook"
    async with aiohttp.ClientSession() as session:
        await session.post(url, data={"url": "https://hooks.example.org/secret-path"})
    await telegram.say(bot.bot_id, 5, "Are you there?")
    async with probing(servers, supervisor, bot):
        await eventually(lambda: bool(supervisor.told), "told")
    assert "a webhook is set at Telegram, to hooks.example.org" in supervisor.told[0][2]
    assert "secret-path" not in supervisor.told[0][2]


async def test_a_refused_token_an_error_and_silence_say_nothing_of_hearing_and_show_no_token(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    refused, broken, silent, well = [await new_bot() for _ in range(4)]
    await telegram.remove_bot(refused.bot_id)
    await telegram.inject_fault("getWebhookInfo", bot_id=broken.bot_id, status=502, times=None)
    await telegram.inject_fault("getWebhookInfo", bot_id=silent.bot_id, delay=30.0, times=None)
    with structlog.testing.capture_logs() as lines:
        async with probing(servers, supervisor, refused, broken, silent, well, timeout=0.3) as probe:
            await eventually(lambda: len(lines) == 2, "both troubles told")
            seen = len(await telegram.calls(method="getWebhookInfo", bot_id=broken.bot_id))
            deadline = time.monotonic() + 10
            while len(await telegram.calls(method="getWebhookInfo", bot_id=broken.bot_id)) < seen + 3:
                assert time.monotonic() < deadline, "it goes on asking"
                await asyncio.sleep(0.02)
            assert probe.pending == {well.bot_id: 0}
            await telegram.inject_fault("getWebhookInfo", bot_id=well.bot_id, body="no JSON", times=None)
            await eventually(lambda: probe.pending == {}, "of what nobody knows nothing is said")
            await eventually(lambda: len(lines) == 3, "told")
    assert {(line["bot"], line["reason"]) for line in lines} == {
        (broken.name, "HTTP 502"),
        (silent.name, "TimeoutError"),
        (well.name, "JSONDecodeError"),
    }, "each once, and the refused token is the bot's to tell"
    assert "secret-of-the-bot" not in str(lines)
    assert {bot_id for bot_id, _, _ in supervisor.told} == {well.bot_id}


async def test_telegrams_wish_not_to_be_asked_is_kept(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    limited, well = await new_bot(), await new_bot()
    await telegram.inject_fault("getWebhookInfo", bot_id=limited.bot_id, status=429, retry_after=60, times=None)
    async with probing(servers, supervisor, limited, well):
        deadline = time.monotonic() + 10
        while len(await telegram.calls(method="getWebhookInfo", bot_id=well.bot_id)) < 4:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert len(await telegram.calls(method="getWebhookInfo", bot_id=limited.bot_id)) == 1


async def test_questions_are_spread_and_at_most_four_at_once(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    bots = [await new_bot() for _ in range(24)]
    off = await new_bot(enabled=False)
    ids = {bot.bot_id for bot in bots}

    async def asked() -> list[dict[str, Any]]:
        calls = await telegram.calls(method="getWebhookInfo")
        return [call for call in calls if call["bot_id"] in ids | {off.bot_id}]

    async with probing(servers, supervisor, *bots, off, interval=1.2):
        deadline = time.monotonic() + 20
        while len(found := await asked()) < 48:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    times = [call["at"] for call in found]
    assert {call["bot_id"] for call in found[:24]} == ids, "all before anyone again"
    assert off.bot_id not in {call["bot_id"] for call in found}, "no disabled one"
    assert times[23] - times[0] >= 0.6, "not all at once"
    await telegram.inject_fault("getWebhookInfo", delay=0.3, times=None)
    before = len(await asked())
    async with probing(servers, supervisor, *bots, interval=0.01):
        deadline = time.monotonic() + 20
        while len(found := await asked()) < before + 12:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    starts = sorted(call["at"] for call in found[before : before + 12])
    assert starts[8] - starts[0] >= 0.5, "the ninth waits for two rounds of four"


async def test_a_bots_own_proxy_is_used(servers: SandboxProcess, supervisor: SupervisorDouble, new_bot: Any) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        body = b'{"ok":true,"result":{"url":"","pending_update_count":7}}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with proxy:
        bot = await new_bot(proxy=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        async with probing(servers, supervisor, bot) as probe:
            await eventually(lambda: probe.pending == {bot.bot_id: 7}, "the proxy's answer")
    assert asked[0].startswith(b"GET http://127.0.0.1:")


async def test_bots_that_leave_the_fleet_are_forgotten(
    servers: SandboxProcess, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    fleet = [await new_bot(), await new_bot()]
    probe = HearingProbe(lambda: fleet, supervisor, servers.telegram, interval=0.2)
    task = asyncio.create_task(probe.run())
    try:
        await eventually(lambda: len(probe.pending) == 2, "both asked about")
        gone = fleet.pop()
        await eventually(lambda: gone.bot_id not in probe.pending, "forgotten")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_options_are_taken_as_far_as_they_are_numbers() -> None:
    assert options_of({}) == {}
    assert options_of({"hearing": {"interval": 1, "patience": "0.5", "timeout": None}, "else": 1}) == {
        "interval": 1.0,
        "patience": 0.5,
    }


async def test_a_bot_with_a_webhook_is_never_deaf_and_what_telegram_can_not_deliver_is_told(
    servers: SandboxProcess, telegram: SandboxClient, supervisor: SupervisorDouble, new_bot: Any
) -> None:
    hooked, polls = await new_bot(updates="webhook"), await new_bot()
    root = f"{servers.telegram}/bot{hooked.token.get_secret_value()}"
    async with aiohttp.ClientSession() as session:
        await session.post(f"{root}/setWebhook", data={"url": "http://127.0.0.1:9/nobody"})
    async with probing(servers, supervisor, hooked, polls) as probe:
        await eventually(lambda: hooked.bot_id in probe.webhooks, "it is asked about")
        assert probe.undelivered is None
        for bot in (hooked, polls):
            await telegram.say(bot.bot_id, 5, "Are you there?")
        await eventually(lambda: probe.undelivered is not None, "it is told")
        await eventually(lambda: (polls.bot_id, True) in {told[:2] for told in supervisor.told}, "one that polls is")
        assert re.fullmatch(
            rf"webhook: Telegram can't deliver updates to {hooked.name} \(.+\); 1 wait there", probe.undelivered or ""
        )
        assert hooked.bot_id not in {bot_id for bot_id, _, _ in supervisor.told}
        assert set(probe.webhooks) == {hooked.bot_id}
