"""Importing this registers every method."""

from __future__ import annotations

from botctl.sandbox.telegram.methods import account, files, messages, receiving

__all__ = ["account", "files", "messages", "receiving"]
