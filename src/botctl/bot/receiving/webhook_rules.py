"""What getWebhookInfo says, against what is wanted. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botctl.handover import WebhookTarget

RECENT = 180.0
"""Seconds for which Telegram's last failure counts, as long as updates wait: it tries again every minute or two."""


def differs(info: Any, target: WebhookTarget, allowed: Sequence[str]) -> str:
    """In what the webhook is not as it should be, in a word; empty when it is.

    That Telegram has the right secret and certificate shows in the address: what follows `v=` is made of them.
    """
    if not isinstance(info, dict):
        return "answer"
    if not info.get("url"):
        return "no webhook is set"
    if info.get("url") != target.url:
        return "another address"
    if info.get("max_connections") != target.max_connections:
        return "max_connections"
    if set(info.get("allowed_updates") or ()) != set(allowed):
        return "allowed_updates"
    return ""


def waiting(info: Any) -> int:
    """How many updates Telegram holds; 0 when it doesn't say."""
    return int(_number(info.get("pending_update_count"))) if isinstance(info, dict) else 0


def failing(info: Any, now: float) -> str:
    """What Telegram says of its last try to deliver, as long as updates wait; `now` in seconds since the epoch."""
    if not waiting(info):
        return ""
    at = _number(info.get("last_error_date"))
    message = info.get("last_error_message")
    if not at or now - at > RECENT or not isinstance(message, str):
        return ""
    return message[:200]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
