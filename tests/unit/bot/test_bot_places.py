"""Whom a call is for, in the words that handlers use."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.bot.sending.sent import place_of


@pytest.mark.parametrize(
    ("chat", "place"),
    [
        (42, 42),
        ("42", 42),
        ("-1001234567890", -1001234567890),
        ("@Channel", "@channel"),
        ("--5", "--5"),
        ("-", "-"),
        ("²", "²"),
        ("9" * 5_000, "9" * 5_000),
        (True, None),
        (None, None),
    ],
)
def test_what_is_no_number_is_left_to_telegram_to_refuse(chat: Any, place: Any) -> None:
    assert place_of({"chat_id": chat}) == place
