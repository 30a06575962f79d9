"""Drafts, media, places and polls, edits, copies, pins and reactions, under the real python-telegram-bot."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    InputMediaVideo,
    Message,
    MessageOriginUser,
)
from telegram.constants import ParseMode
from telegram.error import BadRequest, NetworkError

from botctl.sandbox.client import SandboxClient

CHAT = 42


@pytest.fixture(autouse=True)
async def _known(operator: SandboxClient, bot: Bot) -> None:
    await operator.set_chat(bot.id, CHAT)


async def test_a_draft_is_shown_until_the_message_comes(bot: Bot, operator: SandboxClient) -> None:
    assert await bot.send_message_draft(CHAT, 7, "")
    assert await bot.send_message_draft(CHAT, 7, "Once *upon*", parse_mode=ParseMode.MARKDOWN_V2)
    (draft,) = await operator.drafts(bot.id, CHAT)
    assert (draft["draft_id"], draft["text"], draft["changes"], draft["entities"][0]["type"]) == (
        7,
        "Once upon",
        1,
        "bold",
    )
    assert await operator.transcript(bot.id, CHAT) == []
    assert [event.type for event in await operator.events(bot.id)] == ["draft", "draft"]
    await bot.send_message(CHAT, "Once upon a time")
    assert await operator.drafts(bot.id, CHAT) == []
    await operator.set_chat(bot.id, -5)
    with pytest.raises(BadRequest, match="Textdraft_peer_invalid"):
        await bot.send_message_draft(-5, 7, "no groups")
    with pytest.raises(BadRequest):
        await bot.send_message_draft(CHAT, 0, "x")


@pytest.mark.parametrize("kind", ["photo", "video", "animation", "audio", "voice", "video_note", "document", "sticker"])
async def test_media_go_by_upload_and_by_id(bot: Bot, operator: SandboxClient, kind: str) -> None:
    send: Callable[..., Awaitable[Message]] = getattr(bot, f"send_{kind}")
    caption: dict[str, Any] = (
        {} if kind in ("video_note", "sticker") else {"caption": "<b>hi</b>", "parse_mode": "HTML"}
    )
    sent = await send(CHAT, io.BytesIO(b"content"), **caption)
    media: Any = getattr(sent, kind)
    file = media[-1] if kind == "photo" else media
    assert file.file_size == 7
    if caption:
        assert (sent.caption, sent.caption_entities[0].type) == ("hi", "bold")
    again = await send(CHAT, file.file_id)
    found: Any = getattr(again, kind)
    assert (found[-1] if kind == "photo" else found).file_id == file.file_id
    assert await (await bot.get_file(file.file_id)).download_as_bytearray() == b"content"
    assert [line["method"] for line in await operator.transcript(bot.id, CHAT)] == [
        "send" + "".join(part.capitalize() for part in kind.split("_"))
    ] * 2


async def test_files_that_telegram_refuses(bot: Bot) -> None:
    document = await bot.send_document(CHAT, io.BytesIO(b"x"))
    assert document.document is not None
    with pytest.raises(BadRequest, match="Can't use file of type document as photo"):
        await bot.send_photo(CHAT, document.document.file_id)
    with pytest.raises(BadRequest, match="Wrong file identifier"):
        await bot.send_photo(CHAT, "nonsense")
    with pytest.raises(BadRequest, match="File must be non-empty"):
        await bot.send_photo(CHAT, io.BytesIO(b""))
    with pytest.raises(BadRequest, match="Failed to get http url content"):
        await bot.send_photo(CHAT, "https://pictures.invalid/cat.jpg")
    assert (await bot.send_photo(CHAT, "https://pictures.example/cat.jpg")).photo
    with pytest.raises(BadRequest, match="is too big for a photo; the maximum size is 10485760 bytes"):
        await bot.send_photo(CHAT, io.BytesIO(bytes(10 * 1024 * 1024 + 1)))
    with pytest.raises(NetworkError, match=r"[Rr]equest [Ee]ntity [Tt]oo [Ll]arge"):
        await bot.send_document(CHAT, io.BytesIO(bytes(50 * 1024 * 1024 + 1)))
    with pytest.raises(BadRequest, match="Message caption is too long"):
        await bot.send_photo(CHAT, io.BytesIO(b"x"), caption="x" * 1025)


async def test_an_album_is_one_message_for_each_item(bot: Bot, operator: SandboxClient) -> None:
    photos = [InputMediaPhoto(io.BytesIO(b"one"), caption="both"), InputMediaVideo(io.BytesIO(b"two"))]
    sent = await bot.send_media_group(CHAT, photos)
    assert len({one.media_group_id for one in sent}) == 1
    assert (sent[0].caption, sent[0].photo != (), sent[1].video is not None) == ("both", True, True)
    with pytest.raises(BadRequest, match="Document can't be mixed with other media types"):
        await bot.send_media_group(CHAT, [photos[0], InputMediaDocument(io.BytesIO(b"x"))])
    with pytest.raises(BadRequest, match="Too many messages to send as an album"):
        await bot.send_media_group(CHAT, [InputMediaPhoto(io.BytesIO(b"x"))] * 11)
    assert len(await operator.transcript(bot.id, CHAT)) == 2


async def test_places_contacts_polls_and_dice(bot: Bot, operator: SandboxClient) -> None:
    assert (await bot.send_location(CHAT, 1.5, 2.5)).location is not None
    venue = await bot.send_venue(CHAT, 1.5, 2.5, "Home", "Street 1")
    assert venue.venue is not None
    assert venue.venue.title == "Home"
    contact = await bot.send_contact(CHAT, "+4912345", "Ada")
    assert contact.contact is not None
    dice = await bot.send_dice(CHAT)
    assert dice.dice is not None
    assert 1 <= dice.dice.value <= 6
    with pytest.raises(BadRequest):
        await bot.send_location(CHAT, 91.0, 0.0)
    poll = await bot.send_poll(CHAT, "Tea?", ["yes", "no"], is_anonymous=False)
    await bot.get_updates(allowed_updates=["poll", "poll_answer"])
    await operator.act(bot.id, "votes", chat_id=CHAT, message_id=poll.message_id, option_ids=[1])
    answer, count = await bot.get_updates()
    assert answer.poll_answer is not None
    assert answer.poll_answer.option_ids == (1,)
    assert count.poll is not None
    assert [option.voter_count for option in count.poll.options] == [0, 1]
    assert (await bot.stop_poll(CHAT, poll.message_id)).is_closed
    with pytest.raises(BadRequest, match="Poll has already been closed"):
        await bot.stop_poll(CHAT, poll.message_id)


async def test_captions_media_and_buttons_are_edited(bot: Bot) -> None:
    sent = await bot.send_photo(CHAT, io.BytesIO(b"one"), caption="old")
    edited = await bot.edit_message_caption(CHAT, sent.message_id, caption="new")
    assert isinstance(edited, Message)
    assert edited.caption == "new"
    changed = await bot.edit_message_media(InputMediaDocument(io.BytesIO(b"two")), CHAT, sent.message_id)
    assert isinstance(changed, Message)
    assert (changed.document is not None, changed.photo, changed.caption) == (True, (), None)
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="x")]])
    buttons = await bot.edit_message_reply_markup(CHAT, sent.message_id, reply_markup=keyboard)
    assert isinstance(buttons, Message)
    assert buttons.reply_markup == keyboard
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_reply_markup(CHAT, sent.message_id, reply_markup=keyboard)
    with pytest.raises(BadRequest, match="There is no text in the message to edit"):
        await bot.edit_message_text("x", CHAT, sent.message_id)
    text = await bot.send_message(CHAT, "text")
    with pytest.raises(BadRequest, match="There is no caption in the message to edit"):
        await bot.edit_message_caption(CHAT, text.message_id, caption="x")


async def test_messages_are_copied_and_forwarded(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, CHAT, "look", photo={}, user={"first_name": "Ada"})
    await operator.set_chat(bot.id, CHAT + 1)
    copied = await bot.copy_message(CHAT + 1, CHAT, said.message_id, caption="mine")
    forwarded = await bot.forward_message(CHAT + 1, CHAT, said.message_id)
    assert isinstance(forwarded.forward_origin, MessageOriginUser)
    assert forwarded.forward_origin.sender_user.first_name == "Ada"
    lines = await operator.transcript(bot.id, CHAT + 1)
    assert [(line["message_id"], line["text"]) for line in lines] == [
        (copied.message_id, "mine"),
        (forwarded.message_id, "look"),
    ]
    assert len(await bot.copy_messages(CHAT + 1, CHAT, [said.message_id, said.message_id + 900])) == 1
    assert len(await bot.forward_messages(CHAT + 1, CHAT, [said.message_id])) == 1
    with pytest.raises(BadRequest, match="Message to copy not found"):
        await bot.copy_message(CHAT, CHAT, 999_999)
    with pytest.raises(BadRequest, match="Message to forward not found"):
        await bot.forward_message(CHAT, CHAT, 999_999)
    with pytest.raises(BadRequest, match="strictly increasing order"):
        await bot.forward_messages(CHAT, CHAT, [2, 1])
    kept = await bot.send_message(CHAT, "secret", protect_content=True)
    with pytest.raises(BadRequest, match="Message can't be forwarded"):
        await bot.forward_message(CHAT, CHAT, kept.message_id)


async def test_many_are_deleted_pinned_and_reacted_to(bot: Bot, operator: SandboxClient) -> None:
    sent = [await bot.send_message(CHAT, str(number)) for number in range(3)]
    assert await bot.pin_chat_message(CHAT, sent[0].message_id)
    chat = await bot.get_chat(CHAT)
    assert chat.pinned_message is not None
    assert chat.pinned_message.text == "0"
    with pytest.raises(BadRequest, match="Message to pin not found"):
        await bot.pin_chat_message(CHAT, 999_999)
    assert await bot.unpin_chat_message(CHAT)
    with pytest.raises(BadRequest, match="Message to unpin not found"):
        await bot.unpin_chat_message(CHAT)
    assert await bot.set_message_reaction(CHAT, sent[0].message_id, "👍")
    with pytest.raises(BadRequest, match="Reaction_invalid"):
        await bot.set_message_reaction(CHAT, sent[0].message_id, "🧿")
    assert await bot.delete_messages(CHAT, [sent[1].message_id, sent[2].message_id, 999_999])
    lines = [line for line in await operator.transcript(bot.id, CHAT) if line["text"]]
    assert [line["deleted"] for line in lines] == [False, True, True]
    assert lines[0]["reactions"] == {str(bot.id): ["👍"]}
    with pytest.raises(BadRequest, match="Message to react not found"):
        await bot.set_message_reaction(CHAT, sent[1].message_id, "👍")


async def test_a_bot_names_and_describes_itself(bot: Bot) -> None:
    assert (await bot.get_my_name()).name == "Nora"
    assert await bot.set_my_short_description("A librarian")
    assert (await bot.get_my_short_description()).short_description == "A librarian"
    with pytest.raises(BadRequest):
        await bot.set_my_name("x" * 65)
