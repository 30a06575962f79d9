"""The main road: an update comes in, is stored, handled, answered, and told of on the bus."""

from __future__ import annotations

from typing import Any

from bot_waiting import completion_of, until


async def test_a_message_is_answered_by_a_handler(bot: Any, published: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("hello")
    assert await bot.answers(1) == ["echo hello"]
    await bot.settled(1)
    messages = await bot.rows(
        "SELECT direction, role, text, part FROM messages WHERE bot_id = {bot} ORDER BY message_id"
    )
    assert [tuple(row) for row in messages] == [("in", "user", "hello", 0), ("out", "handler", "echo hello", 0)]
    assert await bot.value("SELECT state FROM sends WHERE bot_id = {bot}") == "sent"
    assert await bot.value("SELECT count(*) FROM users WHERE bot_id = {bot}") == 1

    async def told() -> list[str]:
        types = [event.type for event in await published(bot)]
        return types if "message.sent" in types and "message.received" in types else []

    assert sorted(await until(told)) == ["conversation.started", "message.received", "message.sent"]
    assert await bot.stop() == 0


async def test_the_assistant_answers_from_the_conversation_so_far(bot: Any) -> None:
    bot.start(assistant={"instructions": "You are Nora, a cheerful guide."})
    await bot.ready()
    await bot.say("My favourite colour is green.")
    await bot.answers(1)
    await bot.settled(1)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.say("What is my favourite colour?")
    assert "green" in (await bot.answers(2))[1]
    await bot.settled(2)
    completions = await bot.rows("SELECT cause, step, input_tokens FROM completions WHERE bot_id = {bot}")
    assert len(completions) == 2
    assert all(row["input_tokens"] > 0 for row in completions)
    assert await bot.value("SELECT count(*) FROM messages WHERE bot_id = {bot} AND role = 'assistant'") == 2
    calls = await bot.telegram.calls(method="sendChatAction", bot_id=bot.bot_id)
    assert len(calls) >= 2


async def test_chat_completions_are_spoken_too(bot: Any) -> None:
    bot.start(assistant={"api": "chat", "instructions": "You are Nora."})
    await bot.ready()
    await bot.say("My name is Ada.")
    assert "Ada" in (await bot.answers(1))[0]


async def test_reset_begins_a_new_conversation(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.say("My name is Ada.")
    await bot.answers(1)
    await bot.say("/reset")
    await bot.answers(2)
    await bot.say("What is my name?")
    assert "Ada" not in (await bot.answers(3))[2]
    await bot.settled(3)
    assert await bot.value("SELECT count(*) FROM conversations WHERE bot_id = {bot}") == 2
    assert await bot.value("SELECT count(*) FROM conversations WHERE bot_id = {bot} AND closed_at IS NULL") == 1


async def test_a_long_answer_is_split_and_its_markdown_becomes_entities(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.completion.inject_fault("*", status=200, body=completion_of("**bold** " + "word " * 1500))
    await bot.say("tell me a lot")
    parts = await bot.answers(2)
    assert all(len(part) <= 4096 for part in parts)
    await bot.settled(1)
    entities = await bot.value(
        "SELECT entities::text FROM messages WHERE bot_id = {bot} AND direction = 'out' AND part = 0"
    )
    assert '"bold"' in entities


async def test_the_user_gets_an_apology_when_the_completion_api_fails(bot: Any, published: Any) -> None:
    bot.start(assistant={"retries": 0, "apology": "Sorry!"})
    await bot.ready()
    await bot.completion.inject_fault("*", status=500)
    await bot.say("hello")
    assert await bot.answers(1) == ["Sorry!"]
    beat = await bot.heartbeat(lambda beat: beat.counters["completion_errors"] == 1)
    assert "completion api" in beat.reason
    await bot.say("hello again")
    await bot.answers(2)
    await bot.heartbeat(lambda beat: not beat.reason)

    async def told() -> bool:
        return "assistant.failed" in [event.type for event in await published(bot)]

    await until(told)


async def test_built_in_commands_and_the_command_list(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:orders", subscribe=["order.*"])
    await bot.ready()
    await bot.say("/start")
    await bot.say("/help")
    start, help_ = await bot.answers(2)
    assert start.startswith("Hello")
    assert "/order – Order something" in help_
    assert "/reset" in help_

    async def listed() -> bool:
        about = next(one for one in await bot.telegram.bots() if one["id"] == bot.bot_id)
        return {one["command"] for one in about["commands"]} == {"order", "start", "help", "reset"}

    await until(listed)


async def test_edited_messages_are_left_alone_by_the_assistant(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    said = await bot.telegram.say(bot.bot_id, 100, "hello")
    await bot.answers(1)
    await bot.telegram.edit(bot.bot_id, 100, said.message_id, "hello!")
    await bot.settled(2)
    assert len(await bot.heard()) == 1


async def test_access_rules_refuse_politely_and_keep_nothing(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo", access={"deny": [100], "refusal": "Not for you."})
    await bot.ready()
    await bot.telegram.say(bot.bot_id, 100, "hello", {"id": 100})
    assert await bot.answers(1) == ["Not for you."]
    await bot.settled(1)
    assert await bot.value("SELECT count(*) FROM messages WHERE bot_id = {bot} AND direction = 'in'") == 0


async def test_background_tasks_of_an_update_are_part_of_it(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:background")
    await bot.ready()
    await bot.say("hello")
    await bot.settled(1)
    assert await bot.heard() == ["later"]


async def test_chats_are_concurrent_and_each_is_in_order(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:slow_chat")
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(1, "slow"), (1, "b"), (1, "c"), (2, "quick")])
    assert await bot.answers(1, chat=2) == ["echo quick"]
    assert await bot.heard(1) == []
    assert await bot.answers(3, chat=1) == ["echo slow", "echo b", "echo c"]


async def test_all_lines_of_an_update_carry_its_trace_id(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.say("hello")
    await bot.answers(1)
    await bot.settled(1)
    trace = await bot.value("SELECT trace_id FROM inbox WHERE bot_id = {bot}")
    said = {line["event"] for line in bot.lines() if line.get("trace_id") == trace}
    assert {"update received", "completed", "handled", "sent"} <= said
    assert await bot.value("SELECT bool_and(correlation_id = $1) FROM outbox WHERE bot_id = {bot}", trace)
    assert bot.token.split(":")[1] not in bot.output()
