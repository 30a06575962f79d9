"""Deleting and pinning."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import find_chat, must_administer
from botctl.sandbox.telegram.parameters import Parameters, to_integer
from botctl.sandbox.telegram.world import World

MOST_IDS = 100
PIN_RIGHTS = "not enough rights to manage pinned messages in the chat"


@method("deleteMessage")
def delete_message(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Delete a message; it stays in the transcript, marked."""
    chat = find_chat(world, bot, parameters)
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request("message to delete not found")
    if message.direction == "in":
        must_administer(chat, "message can't be deleted")
    _delete(bot, chat, message)
    return True


@method("deleteMessages")
def delete_messages(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Delete up to 100 messages; those that aren't there are skipped."""
    chat = find_chat(world, bot, parameters)
    found = [chat.messages.get(one) for one in message_ids(parameters)]
    for message in found:
        if message is not None and message.direction == "in":
            must_administer(chat, "message can't be deleted")
    for message in found:
        if message is not None and not message.deleted:
            _delete(bot, chat, message)
    return True


@method("pinChatMessage")
def pin_chat_message(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Pin a message; a service message tells of it."""
    chat = find_chat(world, bot, parameters)
    must_administer(chat, PIN_RIGHTS)
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request("message to pin not found")
    if message.message_id in chat.pinned:
        raise bad_request("CHAT_NOT_MODIFIED")
    chat.pinned.append(message.message_id)
    now = time.time()
    told: dict[str, Any] = {
        "message_id": bot.next_message_id(chat),
        "from": bot.user,
        "chat": chat.body,
        "date": int(now),
        "pinned_message": message.body,
    }
    bot.keep(chat, Message("out", told, now, "pinChatMessage"))
    bot.record("pin", chat_id=chat.chat_id, message_id=message.message_id)
    return True


@method("unpinChatMessage")
def unpin_chat_message(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Unpin one message, or the one pinned last."""
    chat = find_chat(world, bot, parameters)
    must_administer(chat, PIN_RIGHTS)
    given = parameters.integer("message_id")
    if not chat.pinned or (given and given not in chat.pinned):
        raise bad_request("message to unpin not found")
    gone = given or chat.pinned[-1]
    chat.pinned.remove(gone)
    bot.record("unpin", chat_id=chat.chat_id, message_id=gone)
    return True


@method("unpinAllChatMessages")
def unpin_all_chat_messages(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Unpin everything."""
    chat = find_chat(world, bot, parameters)
    must_administer(chat, PIN_RIGHTS)
    chat.pinned.clear()
    bot.record("unpin", chat_id=chat.chat_id)
    return True


def message_ids(parameters: Parameters) -> list[int]:
    """The list of a method for many messages."""
    raw = parameters.structure("message_ids", "message identifiers")
    if not isinstance(raw, list) or not raw:
        raise bad_request("message identifiers are not specified")
    if len(raw) > MOST_IDS:
        raise bad_request("too many message identifiers specified")
    return [to_integer(one) for one in raw]


def _delete(bot: Bot, chat: Chat, message: Message) -> None:
    message.deleted = True
    bot.record("delete", chat_id=chat.chat_id, message_id=message.message_id)
