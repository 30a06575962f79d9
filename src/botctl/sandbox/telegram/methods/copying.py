"""Copying and forwarding, one message or many."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import SERVICE, Chat, Message
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.removing import message_ids
from botctl.sandbox.telegram.methods.sending import admit, caption_of, deliver, find_chat
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

_OWN = frozenset(
    {
        *("message_id", "from", "sender_chat", "chat", "date", "edit_date", "reply_to_message", "reply_markup"),
        *("message_thread_id", "is_topic_message", "media_group_id", "forward_origin", "has_protected_content"),
    }
)
"""What belongs to the message that is copied and not to its content."""


@method("copyMessage")
def copy_message(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send the content of a message again, without a link to it; only the new id is answered."""
    message = _source(world, bot, parameters, "copy")
    content = _content(message)
    if "caption" in parameters.values and "text" not in content:
        for name in ("caption", "caption_entities"):
            content.pop(name, None)
        content.update(caption_of(parameters))
    return {"message_id": deliver(world, bot, parameters, "copyMessage", content)["message_id"]}


@method("copyMessages")
def copy_messages(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """Copy up to 100 messages; those that can't be are skipped."""
    found = _sources(world, bot, parameters, "copy")
    if parameters.flag("remove_caption"):
        dropped = ("caption", "caption_entities")
        contents = [{key: value for key, value in _content(one).items() if key not in dropped} for one in found]
    else:
        contents = [_content(one) for one in found]
    return _deliver_all(world, bot, parameters, "copyMessages", contents)


@method("forwardMessage")
def forward_message(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Forward a message; the new one says where it is from."""
    message = _source(world, bot, parameters, "forward")
    return deliver(world, bot, parameters, "forwardMessage", _forwarded(message))


@method("forwardMessages")
def forward_messages(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """Forward up to 100 messages; those that can't be are skipped."""
    found = _sources(world, bot, parameters, "forward")
    return _deliver_all(world, bot, parameters, "forwardMessages", [_forwarded(one) for one in found])


def _source(world: World, bot: Bot, parameters: Parameters, deed: str) -> Message:
    chat = find_chat(world, bot, parameters, "from_chat_id")
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request(f"message to {deed} not found")
    if not _may(message):
        raise bad_request(f"message can't be {'copied' if deed == 'copy' else 'forwarded'}")
    return message


def _sources(world: World, bot: Bot, parameters: Parameters, deed: str) -> list[Message]:
    chat: Chat = find_chat(world, bot, parameters, "from_chat_id")
    ids = message_ids(parameters)
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise bad_request("message identifiers must be in a strictly increasing order")
    found = [message for one in ids if (message := chat.messages.get(one)) is not None]
    usable = [message for message in found if not message.deleted and _may(message)]
    if not usable:
        raise bad_request(f"there are no messages to {deed}")
    return usable


def _deliver_all(
    world: World, bot: Bot, parameters: Parameters, name: str, contents: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    admit(world, bot, find_chat(world, bot, parameters), len(contents))
    sent = [deliver(world, bot, parameters, name, content, admitted=True) for content in contents]
    return [{"message_id": body["message_id"]} for body in sent]


def _may(message: Message) -> bool:
    return SERVICE.isdisjoint(message.body) and not message.body.get("has_protected_content")


def _content(message: Message) -> dict[str, Any]:
    return {key: value for key, value in message.body.items() if key not in _OWN}


def _forwarded(message: Message) -> dict[str, Any]:
    body = message.body
    if "sender_chat" in body:
        origin = {"type": "channel", "chat": body["sender_chat"], "message_id": body["message_id"]}
    else:
        origin = {"type": "user", "sender_user": body["from"]}
    return {**_content(message), "forward_origin": body.get("forward_origin") or {**origin, "date": body["date"]}}
