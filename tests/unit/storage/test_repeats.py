"""The same update once more, or another one under its number."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from botctl.storage.inbox import NewRow, harmless
from botctl.storage.repeats import another, is_repeat, to_compare
from botctl.storage.updates import read_update


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
    new = row("message", MESSAGE)
    assert is_repeat(new, "message", harmless(new, "too deep").payload)
    assert not is_repeat(new, "message", '{"raw": "..."}')


def test_what_no_parser_takes_is_compared_as_its_text() -> None:
    broken, other = (read_update(b'{"update_id":7,"message":{"text":"%s' % text, "t") for text in (b"a", b"b"))
    assert broken.dead is not None
    assert is_repeat(broken, broken.kind, broken.payload)
    assert not is_repeat(broken, other.kind, other.payload)
    assert not is_repeat(broken, "message", row("message", MESSAGE).payload)
    assert not is_repeat(row("message", MESSAGE), broken.kind, broken.payload)


def test_what_can_not_be_opened_counts_as_another_update() -> None:
    assert not is_repeat(row("message", MESSAGE), "message", "")


def test_of_updates_that_come_at_once_the_first_of_a_number_is_the_stored_one() -> None:
    first, other = row("message", MESSAGE), row("message", {**MESSAGE, "message_id": 5})
    event = dataclasses.replace(first, cause="event:1", update_id=None)
    assert to_compare([first, other, event, event], {"update:7", "event:1"}) == [other]
    assert to_compare([first, other, event], {"event:1"}) == [first, other]
    assert to_compare([first], {"update:7"}) == []


def test_another_update_has_the_same_cause_whenever_it_comes() -> None:
    one, again = another(row("message", MESSAGE)), another(row("message", dict(reversed(MESSAGE.items()))))
    assert one.cause == again.cause != "update:7"
    assert one.cause.startswith("update:7.")
    assert another(row("message", {**MESSAGE, "message_id": 5})).cause != one.cause


def test_what_can_not_be_read_has_a_cause_of_its_own_as_well() -> None:
    odd = dataclasses.replace(row("message", MESSAGE), payload='{"a":')
    assert another(odd).cause.startswith("update:7.")
