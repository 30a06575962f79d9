"""What people do in a chat, turned into updates: write, edit, press a button, send a file."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.detection import detect_entities

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
    chat = bot.open_chat(chat_id, raw.get("chat_type"), user, raw.get("title"))
    now = time.time()
    body: dict[str, Any] = {
        "message_id": bot.next_message_id(chat),
        "from": user,
        "chat": chat.body,
        "date": int(now),
    }
    _fill(bot, raw, body)
    replied = chat.messages.get(int(raw.get("reply_to_message_id") or 0))
    if replied is not None:
        body["reply_to_message"] = {key: value for key, value in replied.body.items() if key != "reply_to_message"}
    if raw.get("message_thread_id"):
        body.update(message_thread_id=int(raw["message_thread_id"]), is_topic_message=True)
    bot.keep(chat, Message("in", body, now, "user"))
    kind = "channel_post" if chat.body["type"] == "channel" else "message"
    return {"update_id": bot.updates.push(kind, body), "message_id": body["message_id"]}


def rewrite(bot: Bot, raw: object) -> dict[str, Any]:
    """A person edits a message: an edited_message update."""
    if not isinstance(raw, dict):
        raise OperatorError("an edit is a JSON object")
    message = _message(bot, raw)
    if message.direction != "in":
        raise OperatorError("only messages of people can be edited here")
    now = time.time()
    body = {key: value for key, value in message.body.items() if key != "entities"}
    body["edit_date"] = int(now)
    _fill(bot, raw, body)
    message.edits.append({"at": now, "text": message.text, "entities": message.body.get("entities", [])})
    message.body = body
    return {"update_id": bot.updates.push("edited_message", body), "message_id": message.message_id}


def press(bot: Bot, raw: object) -> dict[str, Any]:
    """A person presses a button under a message: a callback_query update."""
    if not isinstance(raw, dict):
        raise OperatorError("a callback is a JSON object")
    message = _message(bot, raw)
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
    """Make a chat known to the bot without a message, or change whether its user has blocked the bot."""
    if not isinstance(raw, dict):
        raise OperatorError("a chat is a JSON object")
    chat_id = number(raw, "chat_id")
    chat = bot.open_chat(chat_id, raw.get("chat_type"), user_of(raw.get("user"), chat_id), raw.get("title"))
    if "blocked" in raw:
        chat.blocked = bool(raw["blocked"])
    return chat


def _message(bot: Bot, raw: dict[str, Any]) -> Message:
    chat = bot.chats.get(number(raw, "chat_id"))
    message = chat.messages.get(number(raw, "message_id")) if chat is not None else None
    if message is None:
        raise OperatorError("no such message in that chat", 404)
    return message


def _fill(bot: Bot, raw: dict[str, Any], body: dict[str, Any]) -> None:
    text = raw.get("text")
    document = raw.get("document")
    if not isinstance(text, str) and document is None:
        raise OperatorError("text is required and is a string")
    name = "text" if document is None else "caption"
    if isinstance(document, dict):
        try:
            content = base64.b64decode(str(document.get("content_base64", "")), validate=True)
        except binascii.Error as error:
            raise OperatorError("document.content_base64 is no base64") from error
        mime_type = str(document.get("mime_type", "application/octet-stream"))
        body["document"] = bot.files.add(str(document.get("file_name", "file.bin")), mime_type, content).as_document()
    if isinstance(text, str):
        body[name] = text
        given = raw.get("entities")
        entities = given if isinstance(given, list) else detect_entities(text, [])
        if entities:
            body["entities" if name == "text" else "caption_entities"] = entities
