"""The bus's dead letters on a real server: listed, shown, tried again, dropped."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.exceptions import ResponseError

from botctl.bus.events import encode_event
from botctl.bus.reading.dead_letters import DeadLetters, dead_letter_command
from botctl.bus.reading.letter_shares import OVERHEAD, LetterKeeper, LetterShares
from botctl.errors import UsageError
from support.bus_steps import logged, tick


async def bury(bus: Any, *ids: str, stream: str = "", **more: Any) -> None:
    for one in ids:
        body = encode_event(tick(one))
        command = dead_letter_command(
            bus.topology, stream or bus.topology.out(1), "5-0", f"no {one}", body, source="bot:1", **more
        )
        await bus.redis.execute_command(*command)


async def test_they_are_listed_in_pages_the_newest_first(bus: Any) -> None:
    letters = DeadLetters(bus.redis, bus.topology)
    assert await letters.list() == []
    await bury(bus, "a", "b", "c")
    first = await letters.list(2)
    second = await letters.list(2, after=first[-1].id)
    assert [one.event_id for one in first + second] == ["c", "b", "a"]
    assert await letters.list(2, after=second[-1].id) == []
    assert await letters.count() == 3


async def test_one_tells_why_when_whose_and_what(bus: Any) -> None:
    letters = DeadLetters(bus.redis, bus.topology)
    await bury(bus, "a")
    [listed] = await letters.list()
    letter = await letters.show(listed.id)
    assert letter == listed
    assert (letter.reason, letter.source, letter.bot_id, letter.group) == ("no a", "bot:1", 1, None)
    assert (letter.event_id, letter.type, letter.attempts, letter.entry_id) == ("a", "custom.tick", 1, "5-0")
    assert abs(letter.at - time.time()) < 60
    assert json.loads(letter.body)["id"] == "a"
    assert letter.whole


async def test_one_tried_again_is_routed_though_the_router_knows_its_id(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "custom.*")
    router = bus.router()
    bus.start(router)
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    await eventually(lambda: router.stats.routed == 1)
    letters = DeadLetters(bus.redis, bus.topology)
    await bury(bus, "a")
    [letter] = await letters.list()
    await letters.retry(letter.id)
    await eventually(lambda: router.stats.routed == 2)
    assert (await logged(bus), router.stats.duplicates) == (["a", "a"], 0)
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 2
    assert await letters.list() == []


async def test_one_of_a_mailbox_or_a_group_goes_back_there(bus: Any) -> None:
    await bus.add_bot(1)
    letters = DeadLetters(bus.redis, bus.topology)
    await bus.redis.xgroup_create(bus.topology.group("desk"), "bot", mkstream=True)
    for stream, whose in ((bus.topology.mailbox(1), (1, None)), (bus.topology.group("desk"), (None, "desk"))):
        await bury(bus, "a", stream=stream, attempts=5)
        [letter] = await letters.list()
        assert ((letter.bot_id, letter.group), letter.attempts) == (whose, 5)
        await letters.retry(letter.id)
        [(_, fields)] = await bus.redis.xrange(stream)
        assert set(fields) == {b"e"}
        assert await letters.list() == []


async def test_what_is_gone_cut_or_homeless_can_not_be_tried_again_and_stays(bus: Any) -> None:
    letters = DeadLetters(bus.redis, bus.topology)
    for wrong in ("x", "1", "1-1-1", "-", "+"):
        with pytest.raises(UsageError, match="no id"):
            await letters.retry(wrong)
    with pytest.raises(UsageError, match="there is no dead letter"):
        await letters.retry("1-1")
    await bury(bus, "homeless")
    with pytest.raises(UsageError, match="no stream"):
        await letters.retry((await letters.list())[0].id)
    await bus.add_bot(1)
    big = dead_letter_command(bus.topology, bus.topology.out(1), "5-0", "large", b"x" * 20_000)
    await bus.redis.execute_command(*big)
    [large, homeless] = await letters.list()
    assert (large.size, len(large.body), large.whole) == (20_000, 16_384, False)
    with pytest.raises(UsageError, match="in part only"):
        await letters.retry(large.id)
    assert await letters.count() == 2
    await letters.retry(homeless.id)
    assert await letters.count() == 1


async def test_one_that_is_dropped_is_gone(bus: Any) -> None:
    letters = DeadLetters(bus.redis, bus.topology)
    await bury(bus, "a")
    [letter] = await letters.list()
    assert await letters.drop(letter.id)
    assert not await letters.drop(letter.id)
    assert await letters.show(letter.id) is None


async def test_what_a_bot_writes_beside_its_event_does_not_make_it_come_again_elsewhere(
    bus: Any, eventually: Any
) -> None:
    """The mark of a retry in a bot's own hand repeats its own events, which consumers know by their ids."""
    await bus.add_bot(1)
    router = bus.router()
    bus.start(router)
    client = bus.bot_client(1)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("a")), "again": "1", "x": "y"})
    await eventually(lambda: router.stats.rejected == 1)
    [letter] = await DeadLetters(bus.redis, bus.topology).list()
    assert ("not one event" in letter.reason, letter.whole) == (True, False)


async def test_one_that_two_try_again_at_once_comes_again_once(bus: Any) -> None:
    await bus.add_bot(1)
    await bury(bus, "a", "b")
    [_, letter] = await DeadLetters(bus.redis, bus.topology).list()
    desks = [DeadLetters(bus.client(), bus.topology) for _ in range(4)]
    ends = await asyncio.gather(*(desk.retry(letter.id) for desk in desks), return_exceptions=True)
    assert sorted(isinstance(end, UsageError) for end in ends) == [False, True, True, True], ends
    [(_, fields)] = await bus.redis.xrange(bus.topology.out(1))
    assert json.loads(fields[b"e"])["id"] == "a"
    assert [one.event_id for one in await desks[0].list()] == ["b"]


async def test_one_that_can_not_be_put_back_stays(bus: Any) -> None:
    await bus.add_bot(1)
    await bury(bus, "a")
    [letter] = await DeadLetters(bus.redis, bus.topology).list()
    await bus.redis.xadd(bus.topology.out(1), {"e": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")
    with pytest.raises(ResponseError):
        await DeadLetters(bus.redis, bus.topology).retry(letter.id)
    [kept] = await DeadLetters(bus.redis, bus.topology).list()
    assert (kept.event_id, kept.body, kept.whole) == ("a", letter.body, True)


async def test_a_bot_whose_events_are_refused_without_end_pushes_out_its_own_only(bus: Any, eventually: Any) -> None:
    for bot_id in (1, 2):
        await bus.add_bot(bot_id)
    await bury(bus, "old", stream=bus.topology.group("desk"))
    router = bus.router()
    router.janitor.letters = LetterKeeper(bus.redis, bus.topology, LetterShares(room=10 * (OVERHEAD + 500)))
    bus.start(router)
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": b"one"})
    await eventually(lambda: router.stats.rejected == 1)
    client = bus.bot_client(2)
    for n in range(150):
        await client.xadd(bus.topology.out(2), {"e": f"nonsense {n}"})
    await eventually(lambda: router.stats.rejected == 151)
    letters = DeadLetters(bus.redis, bus.topology)

    async def settled() -> bool:
        return await letters.count() < 15

    await eventually(settled)
    found = await letters.list()
    assert {(one.bot_id, one.group) for one in found} == {(None, "desk"), (1, None), (2, None)}
    assert found[0].body == b"nonsense 149"
