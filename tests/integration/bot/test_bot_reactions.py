"""Bots that publish and react, buttons, and the hooks of python-telegram-bot."""

from __future__ import annotations

from typing import Any

from bot_waiting import until

from botctl.bus.events import Event, encode_event
from botctl.bus.topology import FIELD, Topology


async def test_an_event_is_published_and_another_bot_reacts_once(
    new_bot: Any, database: Any, redis: Any, published: Any
) -> None:
    shop, news = await new_bot(database), await new_bot(database)
    shop.start(handlers="handlers_for_tests:orders", name="shop")
    news.start(handlers="handlers_for_tests:orders", name="news", subscribe=["order.*"])
    await shop.ready()
    await news.ready()
    await shop.say("/order tea")
    assert "ordered" in await shop.answers(1)

    async def placed() -> Event | None:
        return next((event for event in await published(shop) if event.type == "order.placed"), None)

    event = await until(placed)
    assert event.data == {"item": "tea", "chat_id": 100}
    trace = await shop.value("SELECT trace_id FROM inbox WHERE bot_id = {bot}")
    assert event.correlation_id == trace
    # What the router does with it, twice.
    delivered = Event(**{**{name: getattr(event, name) for name in event.__struct_fields__}, "source": "bot:1"})
    for _ in range(2):
        await redis.xadd(Topology("test").mailbox(news.bot_id), {FIELD: encode_event(delivered)})
    assert await news.answers(1) == ["news: tea by bot:1"]
    await news.settled(1)
    assert await news.heard() == ["news: tea by bot:1"]
    assert await news.value("SELECT trace_id FROM inbox WHERE bot_id = {bot}") == trace
    assert await news.value("SELECT cause FROM sends WHERE bot_id = {bot} AND chat_id = 100") == f"event:{event.id}"

    async def acknowledged() -> bool:
        pending: Any = await redis.xpending(Topology("test").mailbox(news.bot_id), "bot")
        return bool(pending["pending"] == 0)

    await until(acknowledged)


async def test_events_that_wait_in_the_database_are_counted(bot: Any, redis: Any) -> None:
    """They are of one publisher, hence of one lane: most of them are not in memory."""
    bot.start(handlers="handlers_for_tests:never_done", subscribe=["order.*"])
    await bot.ready()
    mailbox = Topology("test").mailbox(bot.bot_id)
    for number in range(300):
        event = Event(id=f"e{number}", type="order.placed", occurred_at=1.0, data={})
        await redis.xadd(mailbox, {FIELD: encode_event(event)})
    beat = await bot.heartbeat(lambda beat: beat.gauges["inbox_depth"] == 300)
    assert beat.gauges["lanes"] == 1


async def test_an_unreadable_entry_of_the_mailbox_becomes_a_dead_letter_and_stops_nothing(bot: Any, redis: Any) -> None:
    bot.start(handlers="handlers_for_tests:orders", subscribe=["order.*"])
    await bot.ready()
    mailbox = Topology("test").mailbox(bot.bot_id)
    await redis.xadd(mailbox, {FIELD: b"{"})
    event = Event(id="e1", type="order.placed", occurred_at=1.0, data={"chat_id": 100, "item": "a\x00b"})
    await redis.xadd(mailbox, {FIELD: encode_event(event)})
    assert (await bot.answers(1))[0].startswith("news: a�b")
    (letter,) = await bot.rows(
        "SELECT payload ->> 'raw' AS text, last_error FROM inbox WHERE bot_id = {bot} AND state = 'dead'"
    )
    assert letter["text"] == "{"
    assert letter["last_error"].startswith("can't be read: ")
    await bot.heartbeat(lambda beat: beat.counters["dead_letters"] == 1)


async def test_buttons_are_answered_and_messages_edited(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:orders")
    await bot.ready()
    await bot.say("/order tea")
    await bot.answers(1)
    message = (await bot.telegram.transcript(bot.bot_id, 100))[-1]
    await bot.telegram.press(bot.bot_id, 100, message["message_id"], "cancel")

    async def edited() -> bool:
        return await bot.heard() == ["cancelled"]

    await until(edited)
    methods = await bot.rows("SELECT method FROM sends WHERE bot_id = {bot} AND cause LIKE 'update:%' ORDER BY 1")
    assert [row[0] for row in methods] == ["editMessageText", "sendMessage"]


async def test_hooks_are_called_and_their_sends_are_kept(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:orders")
    await bot.ready()
    assert await bot.answers(1, chat=1) == ["post_init"]
    assert await bot.stop() == 0
    assert await bot.heard(1) == ["post_init", "post_stop"]
    causes = await bot.rows("SELECT cause FROM sends WHERE bot_id = {bot} AND state = 'sent'")
    assert len(causes) == 2
    assert all(row[0].startswith("op:") for row in causes)
