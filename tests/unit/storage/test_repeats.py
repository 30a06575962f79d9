"""The same update once more, or another one under its number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from botctl.storage.inbox import NewRow
from botctl.storage.repeats import another, is_repeat


def row(kind: str, content: Any) -> NewRow:
    return NewRow("update:7", 7, kind, "chat:1", msgspec.json.encode({"update_id": 7, kind: content}).decode(), "t")


MESSAGE = {"message_id": 4, "date": 100, "chat": {"id": 1}, "from": {"id": 1}, "text": "hello"}
MEMBER = {"chat": {"id": 1}, "from": {"id": 1}, "date": 100, "new_chat_member": {"status": "kicked"}}


@pytest.mark.parametrize(
    ("kind", "stored", "new", "repeat"),
    [
        ("message", MESSAGE, MESSAGE, True),
        ("message", MESSAGE, dict(reversed(MESSAGE.items())), True),
        ("message", MESSAGE, {**MESSAGE, "via_bot": {"id": 9}}, True),  # told differently, and still the same message
        ("message", MESSAGE, {**MESSAGE, "message_id": 5}, False),
        ("message", MESSAGE, {**MESSAGE, "chat": {"id": 2}}, False),
        ("edited_message", {**MESSAGE, "edit_date": 101}, {**MESSAGE, "edit_date": 102}, False),
        ("callback_query", {"id": "a", "data": "x"}, {"id": "b", "data": "x"}, False),
        ("callback_query", {"id": "a", "data": "x"}, {"id": "a", "data": "x"}, True),
        ("my_chat_member", MEMBER, MEMBER, True),
        ("my_chat_member", MEMBER, {**MEMBER, "date": 200}, False),
        ("a_kind_to_come", {"what": 1}, {"what": 2}, False),
    ],
)
def test_which_update_it_is(kind: str, stored: Any, new: Any, repeat: bool) -> None:
    assert is_repeat(row(kind, new), kind, row(kind, stored).payload) is repeat


def test_another_kind_is_another_update() -> None:
    assert not is_repeat(row("edited_message", MESSAGE), "message", row("message", MESSAGE).payload)


def test_what_was_refused_as_it_is_and_kept_as_its_text_is_not_taken_again() -> None:
    assert is_repeat(row("message", MESSAGE), "message", '{"raw": "..."}')


def test_another_update_has_the_same_cause_whenever_it_comes() -> None:
    one, again = another(row("message", MESSAGE)), another(row("message", dict(reversed(MESSAGE.items()))))
    assert one.cause == again.cause != "update:7"
    assert one.cause.startswith("update:7.")
    assert another(row("message", {**MESSAGE, "message_id": 5})).cause != one.cause
