"""Mailboxes that several bots share: each event to one of them, to another when that one leaves it lying."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.event_types.subscriptions import Subscription
from botctl.bus.events import encode_event
from botctl.bus.reading import groups as groups_module
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.reading.groups import MOST_DELIVERIES, GroupTender
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import consumer_of
from support.bus_steps import tick

MEMBERS = Roster(
    {1: Member(name="one", groups=("desk",)), 2: Member(name="two", groups=("desk",)), 3: Member(name="three")},
    {"desk": (Subscription(type="ticket.*"),)},
)


@pytest.fixture
async def desk(bus: Any) -> Any:
    """Two members of a group and somebody else, with users and streams."""
    for bot in MEMBERS.bots:
        await bus.add_bot(bot)
    await bus.admin.ensure_groups(["desk"])
    memberships = {bot: member.groups for bot, member in MEMBERS.bots.items()}
    await bus.admin.ensure_bots({bot: [digest(bus, bot)] for bot in MEMBERS.bots}, memberships)
    return bus


def digest(bus: Any, bot: int) -> str:
    import hashlib

    return hashlib.sha256(bus.passwords[bot].encode()).hexdigest()


def member(bus: Any, bot: int) -> Mailbox:
    return Mailbox(bus.bot_client(bot, blocking=True), bus.topology, bot, "desk")


async def deliver(bus: Any, *ids: str) -> None:
    for one in ids:
        await bus.redis.xadd(bus.topology.group("desk"), {"e": encode_event(tick(one, "ticket.opened"))})


def names(entries: Any) -> list[str]:
    return [entry.event.id for entry in entries]


async def pending(bus: Any) -> int:
    return int((await bus.redis.xpending(bus.topology.group("desk"), "bot"))["pending"])


async def test_each_event_goes_to_one_member(desk: Any, eventually: Any) -> None:
    router = Router(desk.redis, desk.topology, lambda: MEMBERS)
    desk.start(router)
    publisher = desk.bot_client(3)
    for number in range(10):
        await publisher.xadd(desk.topology.out(3), {"e": encode_event(tick(f"t{number}", "ticket.opened"))})
    await eventually(lambda: router.stats.routed == 10)
    one, two = member(desk, 1), member(desk, 2)
    found: list[list[str]] = [[], []]
    while len(found[0]) + len(found[1]) < 10:
        for place, mailbox in enumerate((one, two)):
            entries = await mailbox.read(2, block_ms=20)
            found[place] += names(entries)
            await mailbox.ack([entry.id for entry in entries])
    assert sorted(found[0] + found[1]) == [f"t{number}" for number in range(10)]
    assert all(found)
    assert await pending(desk) == 0


async def test_what_a_dead_member_has_read_goes_to_another(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await deliver(desk, "a", "b", "c")
    dead, other = member(desk, 1), member(desk, 2)
    entries = await dead.read(2, block_ms=0)
    await dead.ack([entries[0].id])
    tender = GroupTender(desk.redis, desk.topology)
    await tender.tend(MEMBERS)
    assert (tender.taken_over, tender.pending) == (0, {"desk": 1}), "it has a minute"
    monkeypatch.setattr(groups_module, "IDLE", 0.0)
    await tender.tend(MEMBERS)
    assert tender.taken_over == 1
    assert sorted(names(await other.read(10, block_ms=0))) == ["b", "c"]
    assert names(await member(desk, 1).read(10, block_ms=20)) == [], "the dead one has lost it"


async def test_a_member_that_is_back_finds_its_own_first(desk: Any) -> None:
    await deliver(desk, "a", "b")
    await member(desk, 1).read(1, block_ms=0)
    again = member(desk, 1)
    assert again.again
    assert names(await again.read(10, block_ms=0)) == ["a"]
    assert names(await again.read(10, block_ms=0)) == ["b"]
    assert not again.again


async def test_of_what_it_had_a_member_reads_one_at_a_time_so_that_only_the_fatal_one_counts(desk: Any) -> None:
    await deliver(desk, "a", "fatal", "c")
    assert len(await member(desk, 1).read(10, block_ms=0)) == 3
    for _ in range(2):
        back = member(desk, 1)
        while entries := await back.read(10, block_ms=0):
            if names(entries) == ["fatal"]:
                break
            await back.ack([entry.id for entry in entries])
    counts = await desk.redis.xpending_range(desk.topology.group("desk"), "bot", "-", "+", 10)
    assert [one["times_delivered"] for one in counts] == [3, 1]


async def test_an_entry_that_kills_member_after_member_becomes_a_dead_letter_and_takes_no_other_with_it(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_module, "IDLE", 0.0)
    await deliver(desk, "before", "poison", "after")
    tender = GroupTender(desk.redis, desk.topology)
    handled: list[str] = []
    deaths = 0
    while "poison" not in {letter.event_id for letter in await DeadLetters(desk.redis, desk.topology).list()}:
        mailbox = member(desk, 1 + deaths % 2)  # each dies of it, at first with others in its hands
        while entries := await mailbox.read(10, block_ms=0):
            fatal = [entry for entry in entries if entry.event is not None and entry.event.id == "poison"]
            if fatal:
                break
            handled += names(entries)
            await mailbox.ack([entry.id for entry in entries])
        deaths += 1
        assert deaths < 20
        await tender.tend(MEMBERS)
    [letter] = await DeadLetters(desk.redis, desk.topology).list()
    assert (letter.group, letter.attempts, letter.type) == ("desk", MOST_DELIVERIES, "ticket.opened")
    await tender.tend(MEMBERS)
    mailbox = member(desk, 1)
    while entries := await mailbox.read(10, block_ms=0):
        handled += names(entries)
        await mailbox.ack([entry.id for entry in entries])
    assert sorted(set(handled)) == ["after", "before"]
    assert await pending(desk) == 0
    await DeadLetters(desk.redis, desk.topology).retry(letter.id)
    assert names(await mailbox.read(10, block_ms=0)) == ["poison"]


@pytest.mark.parametrize("what", ["the stream", "its group"])
async def test_a_mailbox_that_somebody_deletes_is_made_again(desk: Any, what: str) -> None:
    await deliver(desk, "a")
    streams: list[Callable[[], str]] = [lambda: desk.topology.group("desk"), lambda: desk.topology.mailbox(1)]
    for stream in streams:
        if what == "the stream":
            await desk.redis.delete(stream())
        else:
            await desk.redis.xgroup_destroy(stream(), "bot")
    janitor = Janitor(desk.redis, desk.topology)
    await janitor.tidy([0, 1, 2, 3], lambda bot: None, MEMBERS)
    assert janitor.remade == 2
    await deliver(desk, "b")
    expected = ["b"] if what == "the stream" else ["a", "b"]
    assert names(await member(desk, 1).read(10, block_ms=0)) == expected


async def test_who_is_no_member_any_more_has_no_right_and_leaves_no_trace(desk: Any) -> None:
    await deliver(desk, "a", "b")
    await member(desk, 1).read(1, block_ms=0)
    left = Roster({**MEMBERS.bots, 1: Member(name="one")}, MEMBERS.groups)
    await desk.admin.ensure_bots({1: [digest(desk, 1)]}, {})
    await desk.admin.cut_off([1])
    from redis.exceptions import NoPermissionError

    with pytest.raises(NoPermissionError):
        await desk.bot_client(1).xreadgroup("bot", consumer_of(1), {desk.topology.group("desk"): ">"})
    tender = GroupTender(desk.redis, desk.topology)
    await tender.tend(left)
    consumers = {one["name"] for one in await desk.redis.xinfo_consumers(desk.topology.group("desk"), "bot")}
    assert consumers == {b"bot-1"}, "as long as it has something"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups_module, "IDLE", 0.0)
        await tender.tend(left)
    await tender.tend(left)
    assert await desk.redis.xinfo_consumers(desk.topology.group("desk"), "bot") == []
    assert names(await member(desk, 2).read(10, block_ms=0)) == ["b", "a"]


async def test_a_group_that_is_gone_takes_its_stream_with_it(desk: Any) -> None:
    await deliver(desk, "a")
    await desk.admin.ensure_groups(["other"])
    assert await desk.redis.exists(desk.topology.group("desk")) == 0
    assert await desk.redis.exists(desk.topology.group("other")) == 1


async def test_a_group_nobody_reads_holds_up_its_sources_like_a_mailbox_and_is_cut(desk: Any) -> None:
    await deliver(desk, *(f"t{number}" for number in range(30)))
    janitor = Janitor(desk.redis, desk.topology, mailbox_limit=10, sources=lambda receiver: f"{receiver}'s")
    await janitor.tidy([0, 1, 2, 3], lambda bot: None, MEMBERS)
    assert (janitor.mailbox_depths["desk"], janitor.dropped) == (10, 20)
    [letter] = await DeadLetters(desk.redis, desk.topology).list()
    assert (letter.group, "20 events" in letter.reason, "desk's" in letter.reason) == ("desk", True, True)
