"""What of an update decides its delivery, and what an answer to it asks for. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from botctl.sandbox.telegram.updates import Update


def read_call(answer: bytes, content_type: str) -> Mapping[str, Any] | None:
    """The method call in a webhook's answer, None without one; calls that read or change the webhook don't count."""
    try:
        if content_type == "application/x-www-form-urlencoded":
            found: Any = dict(parse_qsl(answer.decode()))
        else:
            found = json.loads(answer) if answer.strip() else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("method"), str):
        return None
    name = found["method"].lower()
    refused = name in ("deletewebhook", "setwebhook", "close", "logout") or name.startswith("get")
    return None if refused or not name else found


def chat_of(update: Update) -> int | None:
    """The chat an update is about, None when it is about none."""
    for content in update.body.values():
        if isinstance(content, dict):
            chat = content.get("chat") or (content.get("message") or {}).get("chat")
            if isinstance(chat, dict) and isinstance(chat.get("id"), int):
                return int(chat["id"])
    return None


def lane_of(update: Update) -> int:
    """What must stay in order: a chat, or the update alone."""
    chat = chat_of(update)
    return chat if chat is not None else -update.update_id - 2**60
