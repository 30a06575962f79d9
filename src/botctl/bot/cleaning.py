"""Text as PostgreSQL can store it, under the name that this room has for it; see `storage.cleaning`. Pure."""

from __future__ import annotations

from botctl.storage.cleaning import clean, clean_text, decode, encode

__all__ = ["clean", "clean_text", "decode", "encode"]
