"""Texts: sendMessage, sendMessageDraft, sendChatAction."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Draft
from botctl.sandbox.telegram.entities import format_text
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import deliver, find_chat, formatted
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

_UPLOADED = ("photo", "video", "voice", "document", "video_note", "audio")
_RECORDED = ("video", "voice", "video_note", "audio")
ACTIONS = frozenset(
    {"typing", "choose_sticker", "find_location"}
    | {f"upload_{kind}" for kind in _UPLOADED}
    | {f"record_{kind}" for kind in _RECORDED}
)


@method("sendMessage")
def send_message(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a text."""
    found = formatted(parameters, "text", "entities")
    content: dict[str, Any] = {"text": found.text}
    if found.entities:
        content["entities"] = found.entities
    return deliver(world, bot, parameters, "sendMessage", content)


@method("sendMessageDraft")
def send_message_draft(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Show a text that is still being written, for 30 seconds or until a message comes; private chats only."""
    draft_id = parameters.integer("draft_id")
    if not draft_id:
        raise bad_request("RANDOM_ID_INVALID")
    explicit = parameters.structure("entities", "entities") if "entities" in parameters.values else None
    found = format_text(parameters.text("text"), parameters.text("parse_mode"), explicit, may_be_empty=True)
    chat = find_chat(world, bot, parameters)
    if chat.body["type"] != "private":
        raise bad_request("TEXTDRAFT_PEER_INVALID")
    now = time.time()
    old = chat.live_drafts(now).get(draft_id)
    changes = old.changes + 1 if old is not None else 0
    thread = parameters.integer("message_thread_id")
    chat.drafts[draft_id] = Draft(draft_id, found.text, found.entities, now, changes, thread or None)
    bot.record("draft", chat_id=chat.chat_id, draft_id=draft_id, text=found.text, changes=changes)
    return True


@method("sendChatAction")
def send_chat_action(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Show "typing…" and the like."""
    action = parameters.text("action").strip().lower()
    if action not in ACTIONS:
        raise bad_request("wrong parameter action in request")
    chat = find_chat(world, bot, parameters)
    bot.record("chat_action", chat_id=chat.chat_id, action=action)
    return True
