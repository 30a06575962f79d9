"""What happens to groups: people join, leave, are promoted; the bot is thrown out; a group becomes a supergroup."""

from __future__ import annotations

import secrets
import time
from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.memberships import STATUSES, Member
from botctl.sandbox.telegram.people import number, user_of

ADMIN = 777_000
"""Who does it when the operator doesn't say."""


def set_member(bot: Bot, raw: object) -> dict[str, Any]:
    """Somebody's status in a group changes: `{update_id, message_update_id}`.

    `user_id` of the bot: my_chat_member. Of others: chat_member, and a service message for who joins or leaves.
    """
    if not isinstance(raw, dict) or raw.get("status") not in STATUSES:
        raise OperatorError(f"status is one of {', '.join(STATUSES)}")
    status = str(raw["status"])
    chat_id, user_id = number(raw, "chat_id"), number(raw, "user_id")
    by = user_of(raw.get("by") or {"id": ADMIN}, chat_id)
    chat = bot.open_chat(chat_id, raw.get("chat_type"), by, raw.get("title"))
    if chat.body["type"] == "private":
        raise OperatorError("a private chat has no members; let its user block the bot")
    rights = raw.get("rights") if isinstance(raw.get("rights"), dict) else {}
    if user_id == bot.bot_id:
        old, chat.bot_status = chat.bot_status, status
        new = Member(bot.user, status, rights=dict(rights or {}))
        return {"update_id": bot.tell_of_member(chat, by, Member(bot.user, old), new), "message_update_id": None}
    known = chat.members.get(user_id)
    user = known.user if known is not None else user_of({**(raw.get("user") or {}), "id": user_id}, chat_id)
    before = known if known is not None else Member(user, "left")
    after = chat.members[user_id] = Member(user, status, rights=dict(rights or {}))
    update_id = bot.tell_of_member(chat, by, before, after)
    message_update_id = None
    if after.present and not before.present:
        message_update_id = _service(bot, chat, user, {"new_chat_members": [user]})
    elif before.present and not after.present:
        message_update_id = _service(bot, chat, by if status == "kicked" else user, {"left_chat_member": user})
    return {"update_id": update_id, "message_update_id": message_update_id}


def migrate(bot: Bot, raw: object) -> dict[str, Any]:
    """A group becomes a supergroup: both chats get their service message, the old id is 400 from now on."""
    if not isinstance(raw, dict):
        raise OperatorError("a migration is a JSON object")
    old = bot.chats.get(number(raw, "chat_id"))
    if old is None or old.body["type"] != "group" or old.migrated_to is not None:
        raise OperatorError("only a known group can become a supergroup", 404)
    new_id = raw.get("to_chat_id") or int(f"-100{10**9 + secrets.randbelow(9 * 10**9)}")
    by = user_of(raw.get("user") or {"id": ADMIN}, old.chat_id)
    new = bot.open_chat(int(new_id), "supergroup", by, old.body.get("title"))
    new.members, new.bot_status = dict(old.members), old.bot_status
    updates = [
        _service(bot, old, by, {"migrate_to_chat_id": new.chat_id}),
        _service(bot, new, by, {"migrate_from_chat_id": old.chat_id}),
    ]
    old.migrated_to = new.chat_id
    return {"chat_id": new.chat_id, "update_ids": updates}


def _service(bot: Bot, chat: Chat, by: dict[str, Any], content: dict[str, Any]) -> int | None:
    now = time.time()
    body = {"message_id": bot.next_message_id(chat), "from": by, "chat": chat.body, "date": int(now), **content}
    bot.keep(chat, Message("in", body, now, "service"))
    return bot.updates.push("message", body)
