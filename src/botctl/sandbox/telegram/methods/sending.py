"""What all sending methods share: the chat, its rights, the text, what is answered, flood control, the transcript."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.entities import CAPTION_LIMIT, FormattedText, format_text
from botctl.sandbox.telegram.errors import bad_request, forbidden, migrated, too_many_requests
from botctl.sandbox.telegram.keyboards import check_markup
from botctl.sandbox.telegram.parameters import Parameters, to_integer
from botctl.sandbox.telegram.world import World


def find_chat(world: World, bot: Bot, parameters: Parameters, name: str = "chat_id") -> Chat:
    """The chat a call is about; 400 when the bot doesn't know it or it has moved, 403 when it may not write there."""
    value = parameters.text(name).strip()
    if not value:
        raise bad_request("chat_id is empty")
    chat = bot.chat_by_name(value[1:]) if value.startswith("@") else bot.chats.get(to_integer(value))
    if chat is None:
        chat_id = to_integer(value)
        if not world.any_chat or chat_id == 0:
            raise bad_request("chat not found")
        chat = bot.open_chat(chat_id, None, {"first_name": f"User {chat_id}"})
    check_access(chat)
    return chat


def check_access(chat: Chat) -> None:
    """Raise what the Bot API answers for a chat that has moved, or that the bot is not in."""
    if chat.migrated_to is not None:
        raise migrated(chat.migrated_to)
    kind = chat.body["type"]
    if chat.blocked:
        raise forbidden("bot was blocked by the user")
    if kind != "private" and chat.bot_status == "kicked":
        raise forbidden(f"bot was kicked from the {kind} chat")
    if kind != "private" and chat.bot_status == "left":
        raise forbidden(f"bot is not a member of the {kind} chat")


def formatted(parameters: Parameters, name: str, entities: str) -> FormattedText:
    """A text or, when it is called so, a caption, with its entities."""
    explicit = parameters.structure(entities, "entities") if entities in parameters.values else None
    if name == "caption":
        return format_text(
            parameters.text(name),
            parameters.text("parse_mode"),
            explicit,
            limit=CAPTION_LIMIT,
            may_be_empty=True,
            too_long="message caption is too long",
        )
    return format_text(parameters.text(name), parameters.text("parse_mode"), explicit)


def caption_of(parameters: Parameters) -> dict[str, Any]:
    """The caption's part of a message; empty without one."""
    found = formatted(parameters, "caption", "caption_entities")
    content: dict[str, Any] = {}
    if found.text:
        content["caption"] = found.text
    if found.entities:
        content["caption_entities"] = found.entities
    if found.text and parameters.flag("show_caption_above_media"):
        content["show_caption_above_media"] = True
    return content


def markup_of(parameters: Parameters) -> dict[str, Any] | None:
    """The reply markup, checked; None without one."""
    return check_markup(parameters.structure("reply_markup", "reply keyboard markup"))


def admit(world: World, bot: Bot, chat: Chat, count: int = 1) -> None:
    """Flood control; raises 429."""
    group = chat.body["type"] != "private"
    wait = world.flood.admit(bot.bot_id, chat.chat_id, time.monotonic(), group=group, count=count)
    if wait:
        raise too_many_requests(wait)


def own_message(chat: Chat, parameters: Parameters, deed: str) -> Message:
    """A message of the bot that is to be changed."""
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request(f"message to {deed} not found")
    if message.direction != "out":
        raise bad_request(f"message can't be {deed}ed")
    return message


def deliver(
    world: World, bot: Bot, parameters: Parameters, method_name: str, content: dict[str, Any], *, admitted: bool = False
) -> dict[str, Any]:
    """Put a message of the bot into a chat; the Message object."""
    markup = markup_of(parameters)
    chat = find_chat(world, bot, parameters)
    replied = _replied(chat, parameters)
    if not admitted:
        admit(world, bot, chat)
    now = time.time()
    body: dict[str, Any] = {"message_id": bot.next_message_id(chat)}
    if chat.body["type"] == "channel":
        body["sender_chat"] = chat.body
    else:
        body["from"] = bot.user
    body.update(chat=chat.body, date=int(now), **content)
    thread = parameters.integer("message_thread_id")
    if thread:
        body.update(message_thread_id=thread, is_topic_message=True)
    if replied is not None:
        body["reply_to_message"] = replied
    if markup is not None and "inline_keyboard" in markup:
        body["reply_markup"] = markup
    if parameters.flag("protect_content"):
        body["has_protected_content"] = True
    if effect := parameters.text("message_effect_id"):
        body["effect_id"] = effect
    message = Message("out", body, now, method_name)
    bot.keep(chat, message)
    chat.drafts.clear()
    bot.record(
        "send", chat_id=chat.chat_id, message_id=message.message_id, method=method_name, text=message.text, message=body
    )
    return body


def _replied(chat: Chat, parameters: Parameters) -> dict[str, Any] | None:
    """The message that is answered, from reply_parameters or the older reply_to_message_id."""
    reply = parameters.structure("reply_parameters", "ReplyParameters")
    if isinstance(reply, dict):
        message_id = to_integer(reply.get("message_id", 0))
        optional = str(reply.get("allow_sending_without_reply", "")).lower() in ("true", "1")
    else:
        message_id = parameters.integer("reply_to_message_id")
        optional = parameters.flag("allow_sending_without_reply")
    if not message_id:
        return None
    message = chat.messages.get(message_id)
    if message is not None and not message.deleted:
        return {key: value for key, value in message.body.items() if key != "reply_to_message"}
    if optional:
        return None
    raise bad_request("message to be replied not found")


def must_administer(chat: Chat, complaint: str) -> None:
    """Groups and channels only let administrators do this; raises 400 with Telegram's complaint."""
    if chat.body["type"] != "private" and chat.bot_status != "administrator":
        raise bad_request(complaint)
