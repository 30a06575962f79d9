"""The Telegram emulator under the real python-telegram-bot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from telegram import Bot, BotCommand, InlineKeyboardButton, InlineKeyboardMarkup, MessageEntity, Update
from telegram.constants import ChatAction, ParseMode
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, NetworkError, RetryAfter, TimedOut

from botctl.sandbox.client import SandboxClient, SandboxError
from botctl.sandbox.process import SandboxProcess

CHAT = 42
Until = Callable[..., Awaitable[None]]


async def test_a_message_goes_there_and_back(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, CHAT, "/start now", {"first_name": "Ada", "username": "ada"})
    (update,) = await bot.get_updates()
    assert update.update_id == said.update_id
    assert update.message is not None
    assert update.message.from_user is not None
    assert (update.message.message_id, update.message.from_user.first_name) == (said.message_id, "Ada")
    assert update.message.parse_entities([MessageEntity.BOT_COMMAND]) == {update.message.entities[0]: "/start"}

    sent = await bot.send_message(CHAT, "Hello *Ada*\\!", parse_mode=ParseMode.MARKDOWN_V2)
    assert sent.text == "Hello Ada!"
    assert sent.entities == (MessageEntity(MessageEntity.BOLD, 6, 3),)
    assert sent.message_id == said.message_id + 1

    transcript = await operator.transcript(bot.id, CHAT)
    assert [(line["direction"], line["text"]) for line in transcript] == [("in", "/start now"), ("out", "Hello Ada!")]
    (event,) = await operator.events(bot.id)
    assert (event.type, event.chat_id, event.text) == ("send", CHAT, "Hello Ada!")


async def test_an_update_is_confirmed_by_the_next_offset(bot: Bot, operator: SandboxClient) -> None:
    said = [await operator.say(bot.id, CHAT, f"message {number}") for number in range(3)]
    ids = [one.update_id for one in said]
    assert [update.update_id for update in await bot.get_updates()] == ids
    assert [update.update_id for update in await bot.get_updates(limit=1)] == ids[:1]
    assert (await bot.get_webhook_info()).pending_update_count == 3
    assert ids[1] is not None
    assert [update.update_id for update in await bot.get_updates(offset=ids[1] + 1)] == ids[2:]
    assert (await bot.get_webhook_info()).pending_update_count == 1
    assert [update.update_id for update in await bot.get_updates(offset=-1)] == ids[2:]


async def test_a_long_poll_is_answered_at_once_when_something_comes(
    bot: Bot, operator: SandboxClient, until: Until
) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    await until(_polled, operator, bot)
    await operator.say(bot.id, CHAT, "hi")
    assert len(await asyncio.wait_for(poll, 2)) == 1


async def test_a_second_poller_ends_the_first_with_409(
    bot: Bot, operator: SandboxClient, until: Until, bot_at: Callable[[str], Bot]
) -> None:
    first = asyncio.create_task(bot.get_updates(timeout=30))
    await until(_polled, operator, bot)
    async with bot_at(bot.token) as other:
        second = asyncio.create_task(other.get_updates(timeout=30))
        with pytest.raises(Conflict, match="terminated by other getUpdates request; make sure that only one bot"):
            await asyncio.wait_for(first, 5)
        await operator.say(bot.id, CHAT, "hi")
        assert len(await asyncio.wait_for(second, 5)) == 1


async def test_the_place_of_a_poller_that_is_gone_is_free_at_once(
    bot: Bot, operator: SandboxClient, until: Until
) -> None:
    address = f"{bot.base_url}/getUpdates?timeout=30"
    async with aiohttp.ClientSession() as session:
        poll = asyncio.create_task(session.get(address))
        await until(_polled, operator, bot)
        poll.cancel()
    await until(_not_polled, operator, bot)
    await operator.say(bot.id, CHAT, "hi")
    assert len(await bot.get_updates()) == 1


async def test_polling_while_a_webhook_is_set_is_refused(bot: Bot, operator: SandboxClient, until: Until) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    await until(_polled, operator, bot)
    await bot.set_webhook("https://127.0.0.1:9/hook")
    with pytest.raises(Conflict, match="terminated by setWebhook"):
        await asyncio.wait_for(poll, 5)
    with pytest.raises(Conflict, match="can't use getUpdates method while webhook is active"):
        await bot.get_updates()
    await operator.say(bot.id, CHAT, "hi")
    await bot.delete_webhook(drop_pending_updates=True)
    assert await bot.get_updates() == ()


async def test_an_unknown_token_is_401_and_a_malformed_one_404(
    servers: SandboxProcess, bot_at: Callable[[str], Bot]
) -> None:
    async with aiohttp.ClientSession() as session:
        for path, code, description in [
            ("/bot999:unknown-token/getMe", 401, "Unauthorized"),
            ("/botnonsense/getMe", 404, "Not Found"),
            ("/elsewhere", 404, "Not Found"),
        ]:
            async with session.get(servers.telegram + path) as response:
                assert response.status == code
                assert await response.json() == {"ok": False, "error_code": code, "description": description}
    with pytest.raises(InvalidToken):
        await bot_at("999:unknown-token").initialize()


async def test_a_revoked_token_is_401(bot: Bot, operator: SandboxClient, until: Until) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    await until(_polled, operator, bot)
    await operator.remove_bot(bot.id)
    with pytest.raises(InvalidToken):
        await asyncio.wait_for(poll, 5)
    with pytest.raises(InvalidToken):
        await bot.get_me()


async def test_methods_are_found_in_any_case_and_unknown_ones_are_404(bot: Bot) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{bot.base_url}/GETME") as response:
            assert (await response.json())["result"]["id"] == bot.id
        async with session.get(f"{bot.base_url}/getFortune") as response:
            assert await response.json() == {"ok": False, "error_code": 404, "description": "Not Found"}


async def test_parameters_come_in_every_form(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    address = f"{bot.base_url}/sendMessage"
    entities = [{"type": "bold", "offset": 0, "length": 1}]
    as_text = {"chat_id": str(CHAT), "text": "x", "entities": json.dumps(entities)}
    multipart = aiohttp.FormData(as_text, default_to_multipart=True)
    async with aiohttp.ClientSession() as session:
        for request in (
            session.post(address, json={"chat_id": CHAT, "text": "x", "entities": entities}),
            session.post(address, data=as_text),
            session.post(address, data=multipart),
            session.get(address, params=as_text),
        ):
            async with request as response:
                assert (await response.json())["result"]["entities"] == entities
        async with session.post(address, data="{", headers={"Content-Type": "application/json"}) as response:
            assert response.status == 400


async def test_texts_telegram_refuses(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    assert (await bot.send_message(CHAT, "x" * 4096)).text == "x" * 4096
    with pytest.raises(BadRequest, match="Message is too long"):
        await bot.send_message(CHAT, "x" * 4097)
    with pytest.raises(BadRequest, match="Message text is empty"):
        await bot.send_message(CHAT, "")
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(4711, "x")
    with pytest.raises(BadRequest, match="Can't parse entities: unsupported start tag"):
        await bot.send_message(CHAT, "<think>", parse_mode=ParseMode.HTML)
    with pytest.raises(BadRequest, match="ends after the end of the text"):
        await bot.send_message(CHAT, "x", entities=[MessageEntity(MessageEntity.BOLD, 0, 2)])
    with pytest.raises(BadRequest, match="middle of a utf-16 symbol"):
        await bot.send_message(CHAT, "😀x", entities=[MessageEntity(MessageEntity.BOLD, 1, 1)])


async def test_a_user_who_blocked_the_bot(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT, blocked=True)
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(CHAT, "x")


async def test_flood_control_says_how_long_to_wait(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    await operator.set_chat(bot.id, CHAT + 1)
    await operator.set_limits(chat_burst=2, chat_rate=0.2)
    await bot.send_message(CHAT, "1")
    await bot.send_message(CHAT, "2")
    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(CHAT, "3")
    assert caught.value._retry_after.total_seconds() == 5
    await bot.send_message(CHAT + 1, "elsewhere")


async def test_messages_are_edited_and_deleted(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    sent = await bot.send_message(CHAT, "one")
    edited = await bot.edit_message_text("two", CHAT, sent.message_id)
    assert isinstance(edited, type(sent))
    assert edited.text == "two"
    assert edited.edit_date is not None
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_text("two", CHAT, sent.message_id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("two", CHAT, sent.message_id + 1)
    said = await operator.say(bot.id, CHAT, "mine")
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("two", CHAT, said.message_id)
    assert await bot.delete_message(CHAT, sent.message_id)
    (line, _) = await operator.transcript(bot.id, CHAT)
    assert (line["text"], line["edits"][0]["text"], line["deleted"]) == ("two", "one", True)


async def test_a_pressed_button_is_answered_once_and_in_time(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])
    sent = await bot.send_message(CHAT, "Sure?", reply_markup=keyboard)
    await operator.press(bot.id, CHAT, sent.message_id, "yes")
    (update,) = await bot.get_updates()
    assert update.callback_query is not None
    assert update.callback_query.data == "yes"
    assert await update.callback_query.answer("Thanks")
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query(update.callback_query.id)
    await operator.set_limits(callback_lifetime=0)
    late = await operator.press(bot.id, CHAT, sent.message_id, "yes")
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query(late)
    with pytest.raises(BadRequest, match=r"(?i)button_data_invalid"):
        await bot.send_message(
            CHAT, "x", reply_markup=InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y" * 65)]])
        )


async def test_files_go_both_ways(bot: Bot, operator: SandboxClient) -> None:
    await operator.say(bot.id, CHAT, "look", document=("notes.txt", b"from the user"))
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.document is not None
    assert update.message.caption == "look"
    file = await update.message.document.get_file()
    assert bytes(await file.download_as_bytearray()) == b"from the user"
    sent = await bot.send_document(CHAT, b"from the bot", filename="reply.txt", caption="here")
    assert sent.document is not None
    assert bytes(await (await sent.document.get_file()).download_as_bytearray()) == b"from the bot"
    with pytest.raises(BadRequest, match="Wrong file_id"):
        await bot.get_file("nonsense")


async def test_commands_and_chat_actions(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    await bot.set_my_commands([BotCommand("help", "Show help")])
    assert await bot.get_my_commands() == (BotCommand("help", "Show help"),)
    assert await bot.send_chat_action(CHAT, ChatAction.TYPING)
    assert [event.type for event in await operator.events(bot.id)] == ["commands", "chat_action"]
    with pytest.raises(BadRequest):
        await bot.send_chat_action(CHAT, "dancing")


async def test_bots_are_apart(bot: Bot, operator: SandboxClient, bot_at: Callable[[str], Bot]) -> None:
    other_id = await operator.register_bot("777777:other-bot-token")
    await operator.say(bot.id, CHAT, "for the first")
    async with bot_at("777777:other-bot-token") as other:
        assert await other.get_updates() == ()
        with pytest.raises(BadRequest, match="Chat not found"):
            await other.send_message(CHAT, "x")
        assert await operator.transcript(other_id, CHAT) == []
        first, second = [(await one.get_me()).id for one in (bot, other)]
    assert {first, second} <= {one["id"] for one in await operator.bots()}
    assert len(await bot.get_updates()) == 1


async def test_an_update_that_no_library_can_parse_is_delivered(bot: Bot, operator: SandboxClient) -> None:
    update_id = await operator.inject(bot.id, {"message": {"message_id": "none", "chat": 5}})
    async with aiohttp.ClientSession() as session, session.get(f"{bot.base_url}/getUpdates") as response:
        (raw,) = (await response.json())["result"]
    assert raw == {"update_id": update_id, "message": {"message_id": "none", "chat": 5}}
    with pytest.raises((TypeError, AttributeError, KeyError)):
        Update.de_json(raw, bot)


async def test_edits_of_users_and_allowed_updates(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, CHAT, "teh")
    await operator.edit(bot.id, CHAT, said.message_id, "the")
    updates = await bot.get_updates(allowed_updates=["edited_message"])
    assert [update.effective_message.text for update in updates if update.effective_message] == ["teh", "the"]
    assert (await operator.say(bot.id, CHAT, "not wanted any more")).update_id is None


async def test_an_injected_429_comes_before_the_effect(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    await operator.inject_fault("sendMessage", bot_id=bot.id, retry_after=7)
    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(CHAT, "x")
    assert caught.value._retry_after.total_seconds() == 7
    assert await operator.transcript(bot.id, CHAT) == []
    await bot.send_message(CHAT, "x")
    calls = await operator.calls(method="sendMessage", bot_id=bot.id)
    assert [call["status"] for call in calls] == [429, 200]


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
async def test_a_connection_cut_before_or_after_the_effect(
    bot: Bot, operator: SandboxClient, when: str, kept: int
) -> None:
    await operator.set_chat(bot.id, CHAT)
    await operator.inject_fault("sendMessage", bot_id=bot.id, cut=True, when=when)
    with pytest.raises(NetworkError):
        await bot.send_message(CHAT, "x")
    assert len(await operator.transcript(bot.id, CHAT)) == kept


async def test_a_delayed_call_takes_effect_though_the_client_gave_up(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    await operator.inject_fault("sendMessage", bot_id=bot.id, delay=0.5)
    with pytest.raises(TimedOut):
        await bot.send_message(CHAT, "x", read_timeout=0.1)
    assert await operator.transcript(bot.id, CHAT) == []
    assert await operator.wait_for_reply(bot.id, CHAT) is not None


@pytest.mark.parametrize(
    "fault", [{"status": 502}, {"status": 500, "when": "after"}, {"body": "<html>", "status": 502}]
)
async def test_server_errors(bot: Bot, operator: SandboxClient, fault: dict[str, object]) -> None:
    await operator.set_chat(bot.id, CHAT)
    await operator.inject_fault("sendMessage", bot_id=bot.id, **fault)
    with pytest.raises(NetworkError):
        await bot.send_message(CHAT, "x")


async def test_counts_and_duplicates(bot: Bot, operator: SandboxClient) -> None:
    await operator.set_chat(bot.id, CHAT)
    for text in ("same", "same", "other"):
        await bot.send_message(CHAT, text)
    stats = await operator.stats(bot.id)
    assert stats["calls"]["sendMessage"] == 3
    assert stats["duplicates"] == [{"chat_id": CHAT, "text": "same", "count": 2}]
    with pytest.raises(SandboxError, match="no bot 1"):
        await operator.stats(1)
    with pytest.raises(SandboxError, match="unknown field"):
        await operator.inject_fault("sendMessage", nonsense=1)


async def test_many_messages_in_one_call_keep_their_order(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say_many(bot.id, [(CHAT, f"{number}") for number in range(150)])
    first = await bot.get_updates()
    assert [update.update_id for update in first] == [one.update_id for one in said[:100]]
    rest = await bot.get_updates(offset=first[-1].update_id + 1)
    assert [update.message.text for update in rest if update.message] == [f"{number}" for number in range(100, 150)]


async def _polled(operator: SandboxClient, bot: Bot) -> bool:
    return bool((await operator.stats(bot.id))["polled"])


async def _not_polled(operator: SandboxClient, bot: Bot) -> bool:
    return not await _polled(operator, bot)
