"""Lengths in UTF-16 code units, the unit of Telegram's entities. Pure."""

from __future__ import annotations


def utf16_length(text: str) -> int:
    """Code units of a text: 2 for each character beyond the basic plane (most emoji), else 1."""
    if text.isascii():
        return len(text)
    return len(text) + sum(character > "\uffff" for character in text)
