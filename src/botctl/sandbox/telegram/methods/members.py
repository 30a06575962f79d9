"""Chats and the people in them: looking, leaving, banning, promoting."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.memberships import Member
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import find_chat, must_administer
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

RESTRICT = "not enough rights to restrict/ban chat member"
PROMOTE = "not enough rights"
SHORTEST_BAN, LONGEST_BAN = 30, 366 * 86_400
"""Seconds; a ban that is to be shorter or longer is for ever."""


@method("getChat")
def get_chat(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Everything about a chat."""
    chat = find_chat(world, bot, parameters)
    full = {**chat.body, "accent_color_id": 0, "max_reaction_count": 11}
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    full["accepted_gift_types"] = dict.fromkeys(gifts, False)
    pinned = chat.messages.get(chat.pinned[-1]) if chat.pinned else None
    if pinned is not None:
        full["pinned_message"] = pinned.body
    return full


@method("getChatMember")
def get_chat_member(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """One user's place in a chat."""
    chat = find_chat(world, bot, parameters)
    return _member(bot, chat, parameters).as_json()


@method("getChatAdministrators")
def get_chat_administrators(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """Owner and administrators that are no bots, and this bot."""
    chat = find_chat(world, bot, parameters)
    if chat.body["type"] == "private":
        raise bad_request("there are no administrators in the private chat")
    everybody = [*chat.members.values(), Member(bot.user, chat.bot_status)]
    return [one.as_json() for one in everybody if one.status in ("creator", "administrator")]


@method("getChatMemberCount")
def get_chat_member_count(world: World, bot: Bot, parameters: Parameters) -> int:
    """How many are in a chat, the bot included."""
    chat = find_chat(world, bot, parameters)
    return 1 + (1 if chat.body["type"] == "private" else sum(one.present for one in chat.members.values()))


@method("leaveChat")
def leave_chat(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Leave a group or channel."""
    chat = _group(world, bot, parameters)
    old, chat.bot_status = chat.bot_status, "left"
    bot.record("leave", chat_id=chat.chat_id)
    bot.tell_of_member(chat, bot.user, Member(bot.user, old), Member(bot.user, "left"))
    return True


@method("banChatMember")
def ban_chat_member(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Throw somebody out, for a time or for ever."""
    chat = _group(world, bot, parameters)
    must_administer(chat, RESTRICT)
    _change(bot, chat, parameters, Member({}, "kicked", _until(parameters)))
    return True


@method("unbanChatMember")
def unban_chat_member(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Let somebody come back; without only_if_banned it throws out who is in the chat."""
    chat = _group(world, bot, parameters)
    must_administer(chat, RESTRICT)
    member = _member(bot, chat, parameters)
    if member.status == "kicked" or (member.present and not parameters.flag("only_if_banned")):
        _change(bot, chat, parameters, Member({}, "left"))
    return True


@method("restrictChatMember")
def restrict_chat_member(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Take rights from somebody; all of them given make a plain member again."""
    chat = _group(world, bot, parameters)
    must_administer(chat, RESTRICT)
    raw = parameters.structure("permissions", "ChatPermissions")
    if not isinstance(raw, dict):
        raise bad_request("can't parse permissions: expected an Object")
    rights = {str(name): bool(value) for name, value in raw.items()}
    whole = bool(rights) and all(rights.values())
    new = Member({}, "member") if whole else Member({}, "restricted", _until(parameters), rights)
    _change(bot, chat, parameters, new)
    return True


@method("promoteChatMember")
def promote_chat_member(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Make somebody an administrator; with no right at all, a plain member again."""
    chat = _group(world, bot, parameters)
    must_administer(chat, PROMOTE)
    rights = {name: parameters.flag(name) for name in parameters.values if name.startswith("can_")}
    status = "administrator" if any(rights.values()) else "member"
    _change(bot, chat, parameters, Member({}, status, rights=rights))
    return True


def _group(world: World, bot: Bot, parameters: Parameters) -> Chat:
    chat = find_chat(world, bot, parameters)
    if chat.body["type"] == "private":
        raise bad_request("chat member status can't be changed in private chats")
    return chat


def _member(bot: Bot, chat: Chat, parameters: Parameters) -> Member:
    user_id = parameters.integer("user_id", least=0, most=2**53)
    if user_id == bot.bot_id:
        return Member(bot.user, "member" if chat.body["type"] == "private" else chat.bot_status)
    found = chat.members.get(user_id)
    if found is not None:
        return found
    user = bot.known_user(user_id)
    if user is None:
        raise bad_request("invalid user_id specified")
    return Member(user, "left")


def _change(bot: Bot, chat: Chat, parameters: Parameters, new: Member) -> None:
    old = _member(bot, chat, parameters)
    if old.status == "creator":
        raise bad_request("can't remove chat owner")
    if old.user["id"] == bot.bot_id:
        raise bad_request("can't restrict self")
    new.user = old.user
    chat.members[new.user["id"]] = new
    bot.record("member", chat_id=chat.chat_id, user_id=new.user["id"], text=new.status)
    bot.tell_of_member(chat, bot.user, old, new)


def _until(parameters: Parameters) -> int:
    until = parameters.integer("until_date")
    return until if SHORTEST_BAN <= until - time.time() <= LONGEST_BAN else 0
