"""Whom the sentry leaves alone: a bot that has read and written much in its life, whatever else befalls the server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from redis.asyncio import Redis

from botctl.bus.caretaking.crowd import MOST_TRAFFIC
from botctl.bus.caretaking.sentry import Offence, Sentry

_MB = b"x" * (1024 * 1024)


async def busy(bus: Any) -> Redis:
    """Bot 2, by one connection that has carried more than may be carried at once."""
    await bus.add_bot(1)
    await bus.add_bot(2)
    client: Redis = bus.bot_client(2)
    for _ in range(MOST_TRAFFIC // len(_MB) + 6):
        await client.xadd(bus.topology.out(2), {"e": _MB}, maxlen=1, approximate=False)
    return client


async def connections(bus: Any, count: int) -> list[Any]:
    """So many of bot 1's."""
    held = []
    for _ in range(count):
        client = bus.bot_client(1)
        await client.ping()
        held.append(client)
    return held


async def test_a_bot_is_not_sent_off_for_its_whole_life_when_another_makes_a_crowd(
    make_server: Any, make_bus: Any
) -> None:
    bus = make_bus(make_server().url)
    client = await busy(bus)
    held = await connections(bus, 60)
    offences: list[Offence] = []
    sentry = Sentry(bus.redis, bus.topology, lambda: [0, 1, 2], offences.append)
    for _ in range(3):
        await sentry.look()
    assert {offence.bot_id for offence in offences} == {1}, offences
    ((why, seconds),) = sentry.kept_off().values()
    assert why == offences[0].what
    assert 5 < seconds <= offences[0].seconds
    assert await client.ping()
    assert len(held) == 60


async def test_nobody_is_let_in_while_all_are_shut_out(make_server: Any, make_bus: Any, eventually: Any) -> None:
    """Whoever makes the server anew holds the gate: a pause that ends meanwhile goes on until it is done."""
    bus = make_bus(make_server().url)
    await busy(bus)
    gate = asyncio.Lock()
    sentry = Sentry(bus.redis, bus.topology, lambda: [1], lambda offence: None, first_pause=0.0, gate=gate)

    async def state() -> str:
        return "on" if "on" in (await bus.redis.acl_getuser(bus.topology.user(1)))["flags"] else "off"

    async with gate:
        sentry.accuse(1, "a test")
        look = asyncio.create_task(sentry.look())
        await eventually(lambda: sentry.paused == 1)
        _, waiting = await asyncio.wait({look}, timeout=0.3)
        assert waiting == {look}
        assert await state() == "off"
    await look
    assert await state() == "on"


async def test_a_server_that_stands_still_puts_nobody_off(make_server: Any, make_bus: Any) -> None:
    server = make_server()
    bus = make_bus(server.url)
    client = await busy(bus)
    offences: list[Offence] = []
    sentry = Sentry(bus.redis, bus.topology, lambda: [0, 1, 2], offences.append)
    looks = []
    look_at_clients = sentry._look_at_clients

    async def counted(*, strangers: bool) -> None:
        looks.append(time.monotonic())
        await look_at_clients(strangers=strangers)

    sentry._look_at_clients = counted  # type: ignore[method-assign]
    await sentry.look()
    assert not looks
    pid = int((await bus.redis.info("server"))["process_id"])
    os.kill(pid, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.35, os.kill, pid, signal.SIGCONT)
    await sentry.look()
    await sentry.look()
    await sentry.look()
    assert len(looks) == 2, "the second look compares, the third is not made"
    assert offences == []
    assert await client.ping()
