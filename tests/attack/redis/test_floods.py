"""While A floods the server, B's events arrive, B can connect, the server and the router live and don't grow."""

from __future__ import annotations

import asyncio

import pytest

from attack.redis import areas
from attack.redis.ground import A, Ground
from botctl.bus.caretaking.sentry import Sentry

FLOODS = areas.floods.FLOODS
_ROUTER_MAY_GROW = 100
"""Megabytes: the largest entry that a server with its limits takes, as it is read and as it is told apart."""


async def _suffer(ground: Ground, name: str) -> list[str]:
    """What B had to bear that it must not, in words."""
    flood = FLOODS[name]
    for command in flood.settings:
        await ground.redis.execute_command(*command.split())
    if flood.furnish:
        for _ in range(100):
            async with ground.redis.pipeline(transaction=False) as pipe:
                for _ in range(100):
                    pipe.xadd(ground.names["a_in"], {"e": b"x" * 800})
                await pipe.execute()
        assert len(ground.open().call("XREADGROUP", "GROUP", "bot", "bot", "COUNT", "8000", "STREAMS",
                                      ground.names["a_in"], ">")[0][1]) == 8000  # fmt: skip
    suffered = await ground.under(flood.function, flood.seconds)
    print(f"FIGURE {name}: {suffered} paused {ground.router.stats.paused_bots}")
    bad = []
    if suffered.waited > flood.waits:
        bad.append(f"an event of B's took {suffered.waited:.1f} s")
    if suffered.shut_out > flood.waits:
        bad.append(f"B could not connect for {suffered.shut_out:.1f} s")
    if suffered.memory > flood.memory:
        bad.append(f"the server took {suffered.memory} MB")
    if suffered.router > _ROUTER_MAY_GROW:
        bad.append(f"the router grew by {suffered.router} MB")
    if flood.sent_off and not any("kept off" in one.reason for one in ground.rejected if one.bot_id == A):
        bad.append("A was not sent off")
    await ground.until(lambda: ground.router.stats.healthy, 30)
    return bad


@pytest.mark.parametrize("name", list(FLOODS))
async def test_a_flood_leaves_the_others_alone(fresh: Ground, name: str) -> None:
    assert await _suffer(fresh, name) == []


@pytest.mark.parametrize("name", [name for name, flood in FLOODS.items() if flood.weak])
async def test_a_flood_of_an_unguarded_server_does_not(
    fresh: Ground, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without limits and without the sentry."""

    async def blind(self: Sentry) -> None:
        await asyncio.sleep(1)

    monkeypatch.setattr(Sentry, "look", blind)
    for command in FLOODS[name].weak:
        await fresh.redis.execute_command(*(word.replace("_", " ") for word in command.split()))
    try:
        bad = await _suffer(fresh, name)
    except AssertionError as error:
        bad = [str(error)]
    assert bad
