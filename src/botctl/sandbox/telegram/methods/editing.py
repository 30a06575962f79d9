"""Changing what was sent: text, caption, media, buttons."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.media import KINDS, read_media, take_file
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import admit, caption_of, find_chat, formatted, markup_of, own_message
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current content"
    " and reply markup of the message"
)
_CAPTION = ("caption", "caption_entities", "show_caption_above_media")
_MEDIA = (*KINDS, "has_media_spoiler")


@method("editMessageText")
def edit_message_text(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any] | bool:
    """Replace the text of a message of the bot."""
    found = formatted(parameters, "text", "entities")
    content: dict[str, Any] = {"text": found.text}
    if found.entities:
        content["entities"] = found.entities
    return _edit(world, bot, parameters, "text", ("text", "entities"), content)


@method("editMessageCaption")
def edit_message_caption(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any] | bool:
    """Replace the caption of a photo, video, document …; an empty one removes it."""
    return _edit(world, bot, parameters, "caption", _CAPTION, caption_of(parameters))


@method("editMessageMedia")
def edit_message_media(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any] | bool:
    """Replace the media of a message, and its caption with it."""
    kind, item = read_media(parameters, parameters.structure("media", "InputMedia"))
    stored = take_file(bot.files, parameters, kind, str(item["media"]))
    content = {**kind.show(stored, item), **caption_of(Parameters(item))}
    return _edit(world, bot, parameters, "media", (*_CAPTION, *_MEDIA, "text", "entities"), content)


@method("editMessageReplyMarkup")
def edit_message_reply_markup(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any] | bool:
    """Replace the buttons of a message, or remove them."""
    return _edit(world, bot, parameters, "markup", (), {})


def _edit(
    world: World, bot: Bot, parameters: Parameters, what: str, fields: tuple[str, ...], content: dict[str, Any]
) -> dict[str, Any] | bool:
    markup = markup_of(parameters)
    if inline := parameters.text("inline_message_id"):
        bot.record("edit", inline_message_id=inline, **content)
        return True
    if not parameters.text("message_id"):
        raise bad_request("message identifier is not specified")
    chat = find_chat(world, bot, parameters)
    message = own_message(chat, parameters, "edit")
    old = message.body
    has_media = any(kind in old for kind in KINDS)
    if what == "text" and "text" not in old:
        raise bad_request("there is no text in the message to edit")
    if what == "caption" and not has_media:
        raise bad_request("there is no caption in the message to edit")
    if what == "media" and not has_media and "text" not in old:
        raise bad_request("there is no media in the message to edit")
    admit(world, bot, chat)
    new = {key: value for key, value in old.items() if key not in (*fields, "reply_markup", "edit_date")}
    new.update(content)
    if markup is not None:
        new["reply_markup"] = markup
    if new == {key: value for key, value in old.items() if key != "edit_date"}:
        raise bad_request(NOT_MODIFIED)
    return _keep(bot, chat, message, {**new, "edit_date": int(time.time())})


def _keep(bot: Bot, chat: Chat, message: Message, body: dict[str, Any]) -> dict[str, Any]:
    old = message.body
    entities = old.get("entities", old.get("caption_entities", []))
    message.edits.append({"at": time.time(), "text": message.text, "entities": entities})
    message.body = body
    bot.record("edit", chat_id=chat.chat_id, message_id=message.message_id, text=message.text, message=body)
    return body
