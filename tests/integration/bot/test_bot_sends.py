"""Flood control, chats that can't be reached, groups that move, albums: against the emulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bot_waiting import completion_of, until


async def calls_of(bot: Any, method: str, number: int) -> list[dict[str, Any]]:
    async def made() -> list[dict[str, Any]]:
        calls = await bot.telegram.calls(method=method, bot_id=bot.bot_id)
        return calls if len(calls) >= number else []

    return await until(made, f"{number} calls of {method}")  # type: ignore[no-any-return]


async def test_a_429_of_one_chat_holds_up_no_other_and_is_not_uncertain(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, chat_id=100, retry_after=30)
    await bot.say("slow", 100)
    await calls_of(bot, "sendMessage", 1)
    await bot.say("quick", 101)
    assert await bot.answers(1, 101) == ["echo quick"]

    async def is_planned() -> bool:
        states = await bot.rows("SELECT state FROM sends WHERE bot_id = {bot} ORDER BY chat_id")
        return [row[0] for row in states] == ["planned", "sent"]

    await until(is_planned, "while it waits it is planned")
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.settled(2)
    assert await bot.heard(100) == ["echo slow"]
    assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 0


async def test_a_chats_messages_keep_to_its_rate_in_their_order(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:pressed", limits={"chat_sends_per_second": 2, "chat_burst": 1})
    await bot.ready()
    await bot.say("go")
    assert await bot.answers(4) == ["0", "1", "2", "3"]
    times = [call["at"] for call in await calls_of(bot, "sendMessage", 4)]
    assert times[-1] - times[0] > 1.0, "three halves of a second, less what the first one was late"


async def test_a_blocked_chat_ends_what_waits_for_it_and_a_new_message_makes_it_reachable(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.completion.inject_fault("*", status=200, body=completion_of("one " * 2500))
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, retry_after=1)
    await bot.say("tell me a lot")
    await calls_of(bot, "sendMessage", 1)
    await bot.telegram.set_chat(bot.bot_id, 100, blocked=True)
    await bot.settled(1)
    assert [row[0] for row in await bot.rows("SELECT state FROM sends WHERE bot_id = {bot} ORDER BY n")] == (
        ["failed"] * 3
    )
    assert len(await calls_of(bot, "sendMessage", 2)) == 2
    assert await bot.value("SELECT unreachable FROM chat_states WHERE bot_id = {bot} AND chat_id = 100") == "blocked"
    events = await bot.rows("SELECT data FROM outbox WHERE bot_id = {bot} AND type = 'chat.unreachable'")
    assert [json.loads(row[0]) for row in events] == [{"chat_id": 100, "reason": "blocked"}]
    await bot.telegram.set_chat(bot.bot_id, 100, blocked=False)
    await bot.say("/start")
    assert (await bot.answers(1))[0].startswith("Hello")
    assert await bot.value("SELECT unreachable FROM chat_states WHERE bot_id = {bot} AND chat_id = 100") is None


async def test_what_is_known_of_chats_survives_and_my_chat_member_tells_too(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()

    async def member(status: str) -> None:
        chat, user = (
            {"id": 100, "type": "private", "first_name": "Ada"},
            {"id": 100, "is_bot": False, "first_name": "A"},
        )
        nora = {"id": bot.bot_id, "is_bot": True, "first_name": "Nora"}
        old, new = {"user": nora, "status": "member"}, {"user": nora, "status": status, "until_date": 0}
        update = {"chat": chat, "from": user, "date": 1, "old_chat_member": old, "new_chat_member": new}
        await bot.telegram.inject(bot.bot_id, {"my_chat_member": update})

    await member("kicked")
    await bot.settled(1)
    why = "SELECT unreachable FROM chat_states WHERE bot_id = {bot}"
    assert await bot.value(why) == "blocked"
    bot.kill()
    bot.start()
    await bot.ready()
    await member("member")
    await bot.settled(2)
    assert await bot.value(why) is None


async def test_a_group_that_moves_takes_its_conversation_and_data_along(bot: Any) -> None:
    old, new = -500, -1000500
    bot.start(handlers="handlers_for_sends:counting")
    await bot.ready()
    await bot.telegram.say(bot.bot_id, old, "one", chat_type="group")
    assert await bot.answers(1, old) == ["number 1"]
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, chat_id=old, migrate_to_chat_id=new, times=None)
    await bot.telegram.say(bot.bot_id, old, "two", chat_type="group")
    assert await bot.answers(1, new) == ["number 2"]
    await bot.settled(2)
    assert await bot.value("SELECT moved_to FROM chat_states WHERE bot_id = {bot} AND chat_id = $1", old) == new
    open_ones = await bot.rows("SELECT chat_id FROM conversations WHERE bot_id = {bot} AND closed_at IS NULL")
    assert [row[0] for row in open_ones] == [new]
    calls = len(await bot.telegram.calls(method="sendMessage", bot_id=bot.bot_id))
    await bot.telegram.say(bot.bot_id, new, "three", chat_type="supergroup")
    assert await bot.answers(2, new) == ["number 2", "number 3"]
    await bot.telegram.say(bot.bot_id, old, "a straggler", chat_type="group")
    assert (await bot.answers(3, new))[2].startswith("number")
    assert len(await bot.telegram.calls(method="sendMessage", bot_id=bot.bot_id)) == calls + 2, "no call to the old id"
    assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 0


async def test_the_service_message_of_a_migration_moves_the_chat_before_any_call(bot: Any) -> None:
    old, new = -600, -1000600
    bot.start(handlers="handlers_for_sends:counting")
    await bot.ready()
    await bot.telegram.say(bot.bot_id, old, "one", chat_type="group")
    await bot.answers(1, old)
    chat = {"id": new, "type": "supergroup", "title": "Friends"}
    service = {"message_id": 1, "date": 1, "chat": chat, "migrate_from_chat_id": old}
    await bot.telegram.inject(bot.bot_id, {"message": service})
    await bot.settled(2)
    await bot.telegram.say(bot.bot_id, new, "two", chat_type="supergroup")
    assert await bot.answers(1, new) == ["number 2"]
    ids = await bot.rows("SELECT DISTINCT conversation_id FROM messages WHERE bot_id = {bot}")
    assert len(ids) == 1


async def test_what_was_said_in_the_group_comes_before_the_supergroup(bot: Any) -> None:
    old, new = -700, -1000700
    bot.start(handlers="handlers_for_tests:slow_chat")
    await bot.ready()
    await bot.telegram.say(bot.bot_id, old, "slow", chat_type="group")
    chat = {"id": new, "type": "supergroup", "title": "Friends"}
    await bot.telegram.inject(
        bot.bot_id, {"message": {"message_id": 1, "date": 1, "chat": chat, "migrate_from_chat_id": old}}
    )
    await bot.telegram.say(bot.bot_id, new, "quick", chat_type="supergroup")
    await bot.settled(3)
    handled = await bot.rows("SELECT lane FROM inbox WHERE bot_id = {bot} ORDER BY done_at")
    assert [row[0] for row in handled] == [f"chat:{old}", f"chat:{new}", f"chat:{new}"]


@pytest.mark.parametrize("skip", range(7))
async def test_calls_of_every_kind_are_answered_from_the_journal_on_a_replay(bot: Any, skip: int) -> None:
    """The process is killed in the middle of call number `skip`, before Telegram has carried it out."""
    methods = [
        *("sendPhoto", "sendMediaGroup", "copyMessage", "pinChatMessage"),
        *("editMessageCaption", "deleteMessage", "sendMessage"),
    ]
    bot.start(handlers="handlers_for_sends:everything")
    await bot.ready()
    await bot.telegram.inject_fault(methods[skip], bot_id=bot.bot_id, hang=True, when="before")
    await bot.say("go")
    await calls_of(bot, methods[skip], 1)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.settled(1)
    rows = await bot.rows("SELECT method, state, uncertain FROM sends WHERE bot_id = {bot} ORDER BY n")
    assert [tuple(row) for row in rows] == [(name, "sent", int(n == skip)) for n, name in enumerate(methods)]
    made = next(line for line in bot.lines() if line["event"] == "made")
    assert made["kinds"] == ["Message", "Message", "MessageId", "bool", "Message", "bool"]
    assert made["bound"]
    for n, name in enumerate(methods):
        assert len(await bot.telegram.calls(method=name, bot_id=bot.bot_id)) == 1 + (n == skip), name
    kept = await bot.rows("SELECT part, telegram_message_id FROM messages WHERE bot_id = {bot} AND direction = 'out'")
    assert {part: number for part, number in kept if part != 6} == dict(
        zip((0, 1, 1_000_001, 2), made["ids"], strict=True)
    )


async def test_an_answer_to_a_button_that_comes_too_late_is_done(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:pressed")
    await bot.ready()
    await bot.say("go")
    await bot.answers(4)
    await bot.settled(1)
    await bot.telegram.inject_fault(
        "answerCallbackQuery",
        bot_id=bot.bot_id,
        status=400,
        description="Bad Request: query is too old and response timeout expired or query ID is invalid",
    )
    transcript = await bot.telegram.transcript(bot.bot_id, 100)
    user = {"id": 100, "is_bot": False, "first_name": "Ada"}
    query = {"id": "1", "from": user, "message": transcript[-1]["message"], "chat_instance": "1", "data": "x"}
    await bot.telegram.inject(bot.bot_id, {"callback_query": query})
    await bot.settled(2)
    assert await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND state = 'done'") == 2
