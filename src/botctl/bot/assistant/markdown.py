"""Markdown of a model to Telegram's text with entities, split where it is too long for one message. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from telegramify_markdown.converter import convert
from telegramify_markdown.entity import MessageEntity, split_entities

from botctl.storage.cleaning import clean_text

LIMIT = 4096
"""UTF-16 code units of one message."""

_ENTITIES = 100
"""Entities of one message that Telegram takes; it drops those beyond."""


@dataclass(frozen=True)
class Part:
    """One message: its text and its entities as the Bot API has them."""

    text: str
    entities: list[dict[str, Any]]


def render(markdown: str, limit: int = LIMIT) -> list[Part]:
    """The messages that say this. What can't be converted is sent as it is; at least one part, if there is any text."""
    markdown = clean_text(markdown)
    try:
        text, entities = convert(markdown)
        parts = split_entities(text, entities, limit)
    except Exception:
        # A renderer's fault must not cost the user the answer.
        parts = []
    if not parts:
        parts = split_entities(markdown, [], limit)
    return [Part(text, _usable(entities)) for text, entities in parts]


def _usable(entities: list[MessageEntity]) -> list[dict[str, Any]]:
    return [entity.to_dict() for entity in entities if entity.length > 0][:_ENTITIES]
