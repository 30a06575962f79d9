"""What people do in a chat, turned into updates: write, edit, send an album, press a button, block the bot."""

from __future__ import annotations

import secrets
import time
from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.memberships import Member
from botctl.sandbox.telegram.people_content import fill

USER_FIELDS = ("id", "is_bot", "first_name", "last_name", "username", "language_code", "is_premium")


def number(raw: dict[str, Any], name: str) -> int:
    """A required whole number of the operator's JSON."""
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OperatorError(f"{name} is required and is a whole number")
    return value


def user_of(raw: object, chat_id: int) -> dict[str, Any]:
    """The User object: what was given, with the chat's id as the id in a private chat."""
    given = raw if isinstance(raw, dict) else {}
    user: dict[str, Any] = {"id": chat_id if chat_id > 0 else 777_000, "is_bot": False}
    user.update({key: given[key] for key in USER_FIELDS if given.get(key) is not None})
    user.setdefault("first_name", f"User {user['id']}")
    user.setdefault("language_code", "en")
    return user


def write(bot: Bot, raw: object) -> dict[str, Any]:
    """A person writes to the bot; `{update_id, message_id}`, the update_id null when the bot doesn't want messages."""
    if not isinstance(raw, dict):
        raise OperatorError("a message is a JSON object")
    chat_id = number(raw, "chat_id")
    user = user_of(raw.get("user"), chat_id)
    chat = enter(bot, raw, user)
    now = time.time()
    channel = chat.body["type"] == "channel"
    body: dict[str, Any] = {
        "message_id": bot.next_message_id(chat),
        **({"sender_chat": chat.body} if channel else {"from": user}),
        "chat": chat.body,
        "date": int(now),
    }
    if raw.get("media_group_id"):
        body["media_group_id"] = str(raw["media_group_id"])
    fill(bot, raw, body)
    replied = chat.messages.get(int(raw.get("reply_to_message_id") or 0))
    if replied is not None:
        body["reply_to_message"] = {key: value for key, value in replied.body.items() if key != "reply_to_message"}
    if raw.get("message_thread_id"):
        body.update(message_thread_id=int(raw["message_thread_id"]), is_topic_message=True)
    bot.keep(chat, Message("in", body, now, "user"))
    kind = "channel_post" if channel else "message"
    return {"update_id": bot.updates.push(kind, body), "message_id": body["message_id"]}


def enter(bot: Bot, raw: dict[str, Any], user: dict[str, Any]) -> Chat:
    """The chat of an operator's request, made when it is new; in a group the user is a member from now on."""
    chat_id = number(raw, "chat_id")
    chat = bot.open_chat(chat_id, raw.get("chat_type"), user, raw.get("title"))
    if raw.get("username") and chat.body["type"] != "private":
        chat.body["username"] = str(raw["username"])
    if chat.migrated_to is not None:
        raise OperatorError(f"that group has become the supergroup {chat.migrated_to}")
    if chat.body["type"] != "private":
        member = chat.members.setdefault(user["id"], Member(user))
        if not member.present:
            raise OperatorError(f"user {user['id']} is {member.status} in that chat")
    return chat


def write_album(bot: Bot, raw: object) -> dict[str, Any]:
    """A person sends an album: each item is a message and an update of its own; `{media_group_id, messages}`."""
    items = raw.get("items") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(items, list) or not 2 <= len(items) <= 10:
        raise OperatorError("an album is a JSON object with 2 to 10 items")
    group_id = str(secrets.randbelow(10**17))
    common = {key: value for key, value in raw.items() if key != "items"}
    written = [write(bot, {**common, **item, "media_group_id": group_id}) for item in items]
    return {"media_group_id": group_id, "messages": written}


def rewrite(bot: Bot, raw: object) -> dict[str, Any]:
    """A person edits a message: an edited_message update."""
    if not isinstance(raw, dict):
        raise OperatorError("an edit is a JSON object")
    message = message_of(bot, raw)
    if message.direction != "in":
        raise OperatorError("only messages of people can be edited here")
    now = time.time()
    body = {key: value for key, value in message.body.items() if key not in ("entities", "caption_entities")}
    body["edit_date"] = int(now)
    fill(bot, raw, body)
    message.edits.append({"at": now, "text": message.text, "entities": message.body.get("entities", [])})
    message.body = body
    kind = "edited_channel_post" if body["chat"]["type"] == "channel" else "edited_message"
    return {"update_id": bot.updates.push(kind, body), "message_id": message.message_id}


def press(bot: Bot, raw: object) -> dict[str, Any]:
    """A person presses a button under a message: a callback_query update."""
    if not isinstance(raw, dict):
        raise OperatorError("a callback is a JSON object")
    message = message_of(bot, raw)
    query_id = str(secrets.randbelow(10**18))
    query = {
        "id": query_id,
        "from": user_of(raw.get("user"), number(raw, "chat_id")),
        "message": message.body,
        "chat_instance": str(abs(hash(message.body["chat"]["id"]))),
        "data": str(raw.get("data", "")),
    }
    bot.ask(query_id)
    return {"update_id": bot.updates.push("callback_query", query), "callback_query_id": query_id}


def set_chat(bot: Bot, raw: object) -> Chat:
    """Make a chat known to the bot without a message; with `blocked` its user blocks the bot, or takes that back."""
    if not isinstance(raw, dict):
        raise OperatorError("a chat is a JSON object")
    user = user_of(raw.get("user"), number(raw, "chat_id"))
    chat = enter(bot, raw, user)
    if "blocked" in raw and chat.blocked != bool(raw["blocked"]):
        chat.blocked = bool(raw["blocked"])
        old, new = ("member", "kicked") if chat.blocked else ("kicked", "member")
        bot.tell_of_member(chat, user, Member(bot.user, old), Member(bot.user, new))
    return chat


def message_of(bot: Bot, raw: dict[str, Any]) -> Message:
    """The message that a request names. Raises OperatorError."""
    chat = bot.chats.get(number(raw, "chat_id"))
    message = chat.messages.get(number(raw, "message_id")) if chat is not None else None
    if message is None:
        raise OperatorError("no such message in that chat", 404)
    return message
