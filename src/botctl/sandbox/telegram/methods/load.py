"""Importing this registers every method."""

from __future__ import annotations

from botctl.sandbox.telegram.methods import (
    account,
    answering,
    copying,
    editing,
    files,
    media,
    members,
    messages,
    receiving,
    removing,
    things,
    webhook,
)

__all__ = [
    "account",
    "answering",
    "copying",
    "editing",
    "files",
    "media",
    "members",
    "messages",
    "receiving",
    "removing",
    "things",
    "webhook",
]
