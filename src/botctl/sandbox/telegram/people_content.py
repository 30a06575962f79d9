"""What a person's message holds: text, a file of any kind, a place, a contact, a sticker, dice."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.detection import detect_entities
from botctl.sandbox.telegram.media import KINDS, Kind

_PLAIN = {
    "location": ("latitude", "longitude"),
    "venue": ("location", "title", "address"),
    "contact": ("phone_number", "first_name"),
    "dice": ("emoji", "value"),
    "poll": ("id", "question", "options"),
    "story": ("chat", "id"),
}
"""Objects that go into the message as they are given, with what Telegram never leaves out of them
(https://core.telegram.org/bots/api#available-types)."""

_POLL = {
    "total_voter_count": 0,
    "is_closed": False,
    "is_anonymous": True,
    "type": "regular",
    "allows_multiple_answers": False,
    "allows_revoting": False,
    "members_only": False,
}
"""What a poll has besides, if it isn't given."""


def fill(bot: Bot, raw: dict[str, Any], body: dict[str, Any]) -> None:
    """Put the content of an operator's request into a message. Raises OperatorError when there is none."""
    kinds = [name for name in KINDS if isinstance(raw.get(name), dict)]
    plain = [name for name in _PLAIN if isinstance(raw.get(name), dict)]
    text = raw.get("text")
    if not isinstance(text, str) and not kinds and not plain and not any(name in body for name in KINDS):
        raise OperatorError(f"text is required and is a string, or one of {', '.join((*KINDS, *_PLAIN))}")
    for name in kinds:
        body.update(_shown(bot, KINDS[name], raw[name]))
    for name in plain:
        if missing := [key for key in _PLAIN[name] if key not in raw[name]]:
            raise OperatorError(f"{name} lacks {', '.join(missing)}")
        body[name] = {**_POLL, **raw[name]} if name == "poll" else raw[name]
    if isinstance(text, str):
        name = "caption" if any(kind in body for kind in KINDS) else "text"
        body[name] = text
        given = raw.get("entities")
        entities = given if isinstance(given, list) else detect_entities(text, [])
        if entities:
            body["entities" if name == "text" else "caption_entities"] = entities


def _shown(bot: Bot, kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    try:
        content = base64.b64decode(str(given.get("content_base64", "")), validate=True)
    except binascii.Error as error:
        raise OperatorError(f"{kind.name}.content_base64 is no base64") from error
    name = str(given.get("file_name", f"file.{kind.suffix}"))
    mime_type = str(given.get("mime_type", kind.mime_type))
    stored = bot.files.add(name, mime_type, content, f"{kind.name}s", kind.type_name)
    return kind.show(stored, given)
