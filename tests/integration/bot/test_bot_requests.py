"""Bots that ask each other: answers, refusals, deadlines, and what a crash changes of it, which is nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bot_waiting import until

from botctl.bus.client import connect
from botctl.bus.event_types.subscriptions import Subscription
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.runtime import messages


@pytest.fixture
async def fleet(new_bot: Any, database: Any, valkey_admin_url: str) -> AsyncIterator[Any]:
    """A customer and a shop, not started, and a router between them."""
    customer, shop = await new_bot(database), await new_bot(database)
    price, name = Subscription(type="price.*"), Subscription(type="name.*", where={"source": "shop"})
    roster = Roster({
        customer.bot_id: Member(name="customer", answers=(name,)), shop.bot_id: Member(name="shop", answers=(price,)),
    })  # fmt: skip
    blocking = connect(valkey_admin_url, blocking=True)
    routing = asyncio.create_task(Router(blocking, Topology("test"), lambda: roster).run())
    yield customer, shop
    routing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await routing
    await blocking.aclose()


async def begin(customer: Any, shop: Any, **more: Any) -> None:
    customer.start(handlers="handlers_for_bus:customer", name="customer", answers=["name.*"], **more)
    if shop is not None:
        shop.start(handlers="handlers_for_bus:shop", name="shop", answers=["price.*"], **more)
        await shop.ready()
    await customer.ready()


async def quotes(shop: Any) -> int:
    return int(await shop.value("SELECT count(*) FROM outbox WHERE bot_id = {bot} AND type = 'quote.made'"))


async def state_of_request(customer: Any, state: str) -> None:
    async def found() -> bool:
        return bool(await customer.value("SELECT state = $1 FROM requests WHERE bot_id = {bot}", state))

    await until(found, f"a request that is {state}")


async def test_a_bot_asks_another_and_gets_its_answer(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, shop)
    await customer.say("tea")
    assert await customer.answers(1) == ["tea: 3"]
    await customer.say("twice honey")
    assert (await customer.answers(2))[1] == "honey: 5 and 5"
    assert await quotes(shop) == 3
    [trace] = {
        row[0]
        for row in await customer.rows(
            "SELECT trace_id FROM requests WHERE bot_id = {bot} AND target = 'shop'"
            " AND cause = (SELECT min(cause) FROM requests WHERE bot_id = {bot})"
        )
    }
    assert await shop.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND trace_id = $1", trace) >= 1


async def test_a_callback_that_raises_and_a_bot_that_does_not_answer_are_told_at_once(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, shop)
    await customer.say("trouble")
    assert await customer.answers(1) == [
        "trouble: failed: shop doesn't answer price.quote: failed (ValueError: no such thing)"
    ]
    await shop.settled(1)
    assert await shop.value("SELECT attempts FROM inbox WHERE bot_id = {bot}") == 1
    await shop.stop()
    shop.start(handlers="handlers_for_bus:once")
    await shop.ready()
    await customer.say("tea")
    assert "tea: unhandled" in (await customer.answers(2))[1]


async def test_bots_that_ask_each_other_back_do_not_block_though_each_works_on_one_thing_at_a_time(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, shop, limits={"concurrent_chats": 1})
    await customer.say("who")
    assert await customer.answers(1) == ["who: Ada"]
    await customer.say("deep")
    assert (await customer.answers(2))[1] == "deep: Ada"


async def test_without_an_answer_in_time_the_asker_is_told_and_a_late_reply_is_dropped(fleet: Any, redis: Any) -> None:
    customer, shop = fleet
    await begin(customer, None)
    await customer.say("tea 0.3")
    assert await customer.answers(1) == ["tea: no answer"]
    shop.start(handlers="handlers_for_bus:shop", name="shop", answers=["price.*"])
    await shop.ready()
    await shop.settled(1)
    assert await quotes(shop) == 0, "what nobody waits for is not worked on"
    await customer.say("honey")
    assert (await customer.answers(2))[1] == "honey: 5"


async def test_a_killed_asker_awaits_the_same_request_again(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, None)
    await customer.say("tea 20")
    await state_of_request(customer, "waiting")
    for _ in range(4):  # more deaths than an update is forgiven: to wait for another bot is nobody's fault
        customer.kill()
        customer.start(previous_failure="crash")
        await customer.heartbeat(lambda beat: beat.gauges["lanes"] == 1)
    await begin_shop(shop)
    assert await customer.answers(1) == ["tea: 3"]
    assert await quotes(shop) == 1
    assert await customer.value("SELECT count(*) FROM requests WHERE bot_id = {bot}") == 1


async def begin_shop(shop: Any) -> None:
    shop.start(handlers="handlers_for_bus:shop", name="shop", answers=["price.*"])
    await shop.ready()


async def test_a_killed_asker_that_has_its_answer_uses_it_and_asks_nobody(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, shop)
    await customer.say("hang tea")
    await state_of_request(customer, "answered")
    customer.kill()
    await shop.stop()
    customer.start(handlers="handlers_for_bus:customer_in_a_hurry", previous_failure="signal")
    assert await customer.answers(1) == ["tea: 3"]
    assert await quotes(shop) == 1


async def test_an_answerer_killed_meanwhile_answers_after_its_restart(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, shop)
    await customer.say("die 20")
    await shop.ended()
    shop.start(previous_failure="crash")
    assert await customer.answers(1) == ["die: 3"]


async def test_a_handling_that_fails_for_want_of_an_answer_asks_anew(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, None)
    await customer.say("raise tea 0.3")

    async def voided() -> bool:
        return bool(await customer.value("SELECT count(*) > 0 FROM requests WHERE bot_id = {bot} AND state = 'void'"))

    await until(voided)
    await begin_shop(shop)
    assert await customer.answers(1) == ["tea: 3"]


async def test_a_mailbox_that_cannot_be_worked_off_is_told_and_goes_on_when_it_can(fleet: Any) -> None:
    customer, shop = fleet
    await begin(customer, None)
    await customer.say("tea 20")
    await state_of_request(customer, "waiting")
    await customer.rows("REVOKE UPDATE (reply) ON requests FROM bots")
    try:
        await begin_shop(shop)
        beat = await customer.heartbeat(lambda beat: beat.health is messages.Health.DEGRADED)
        assert beat.reason.startswith("its mailbox can't be worked off: ")
        assert "permission denied" in beat.reason
    finally:
        await customer.rows("GRANT UPDATE (reply) ON requests TO bots")
    assert await customer.answers(1) == ["tea: 3"]
    await customer.heartbeat(lambda beat: beat.health is messages.Health.OK)


async def test_a_reply_from_somebody_else_is_not_taken(fleet: Any, redis: Any) -> None:
    from botctl.bus.events import Event, encode_event

    customer, shop = fleet
    await begin(customer, None)
    await customer.say("tea 20")
    await state_of_request(customer, "waiting")
    request = await customer.value("SELECT request_id FROM requests WHERE bot_id = {bot}")
    for source, name in (("bot:1", "thief"), ("bot:2", None)):
        forged = Event(
            id=f"forged-{source}", type="price.quote", source=source, occurred_at=1.0, data={"price": "free"},
            to=f"bot:{customer.bot_id}", reply_to=request, **({"source_name": name} if name else {}),
        )  # fmt: skip
        await redis.xadd(Topology("test").mailbox(customer.bot_id), {"e": encode_event(forged)})
    await customer.heartbeat(lambda beat: beat.counters["late_replies"] == 2)
    await begin_shop(shop)
    assert await customer.answers(1) == ["tea: 3"]
