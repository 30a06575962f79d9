"""What a trace tells: what can be asked, why something waits, what is masked; texts are opened on demand only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from botctl.control.tracing.contents import Opener, event_note, send_content, update_content
from botctl.control.tracing.masking import masked
from botctl.control.tracing.words import Address, Standing, address, chat_of, own_error, why_it_waits
from botctl.errors import UsageError
from botctl.security.vault import Cipher, DataKey
from botctl.storage.sealing import UNSEALED, Sealing

SEALING = Sealing(Cipher(7, [DataKey.new(7, 1)]), seals=True)
UPDATE = {"update_id": 1, "message": {"date": 50, "text": "hello", "from": {"first_name": "Ada", "id": 3}}}
STANDING = Standing(
    attempts=0, begun_at=None, next_attempt_at=None, error="", before=None, bot_state="running", bot_reason=""
)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("123", Address(cause="update:123")),
        ("007", Address(cause="update:7")),
        ("update:5", Address(cause="update:5")),
        ("863a0daaba5d89c2", Address(trace_id="863a0daaba5d89c2")),
        ("1234567890123456", Address(trace_id="1234567890123456")),
        ("event:a6248cd9@once", Address(cause="event:a6248cd9@once")),
        ("job:tea:1795420350798", Address(cause="job:tea:1795420350798")),
        ("op:863a0daaba5d89c2", Address(cause="op:863a0daaba5d89c2")),
    ],
)
def test_what_can_be_traced(words: str, found: Address) -> None:
    assert address(words) == found


@pytest.mark.parametrize("words", ["", "hello", "-5", "update:", "update:x", "863A0DAABA5D89C2", "mail:1", "event:a b"])
def test_what_can_not_is_refused_with_what_can(words: str) -> None:
    with pytest.raises(UsageError) as told:
        address(words)
    assert "16 hexadecimal digits" in (told.value.hint or "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "waits for its turn"),
        ({"next_attempt_at": 104.0}, "next attempt in 4 s"),
        ({"next_attempt_at": 99.0}, "waits for its turn"),
        ({"begun_at": 97.0}, "is being handled for 3 s"),
        ({"begun_at": 97.0, "next_attempt_at": 97.0}, "waits for 3 s for the completion API"),
        ({"before": ("update:5", 1)}, "waits for its chat's earlier update 5"),
        ({"before": ("update:5", 3), "next_attempt_at": 104.0}, "waits for its chat's earlier update 5, and 2 more"),
        ({"bot_state": None}, "the bot is not in the fleet"),
        (
            {"bot_state": "unknown", "next_attempt_at": 104.0},
            "next attempt in 4 s; whether the bot runs nobody knows: the supervisor doesn't answer",
        ),
        ({"bot_state": "stopped", "before": ("update:5", 1)}, "the bot is stopped"),
        ({"bot_state": "paused", "bot_reason": "PostgreSQL is away"}, "the bot is paused: PostgreSQL is away"),
        (
            {"begun_at": 97.0, "bot_state": "degraded", "bot_reason": "telegram: 502"},
            "is being handled for 3 s; the bot is degraded: telegram: 502",
        ),
    ],
)
def test_why_something_waits(changes: dict[str, Any], words: str) -> None:
    assert why_it_waits(replace(STANDING, **changes), 100.0) == words


def test_without_text_the_clear_is_measured_and_the_sealed_left_closed() -> None:
    opener = Opener(lambda: pytest.fail("nothing is to be opened"), show=False)
    assert send_content(Opener(lambda: UNSEALED, show=False), '{"text": "four"}', None)[0].text is None
    sealed = SEALING.json("inbox", "payload", json.dumps(UPDATE))
    content, written = update_content(opener, "message", sealed)
    assert (content.sealed, content.length, content.text, written) == (True, None, None, None)
    assert opener.error("inbox", "last_error", SEALING.text("inbox", "last_error", "hello")) != "hello"


def test_with_text_both_are_shown_and_counted() -> None:
    opener = Opener(lambda: SEALING, show=True)
    for stored in (json.dumps(UPDATE), SEALING.json("inbox", "payload", json.dumps(UPDATE))):
        content, written = update_content(opener, "message", stored)
        assert (content.type, content.length, content.text, written) == ("text", 5, "hello", 50.0)
    assert opener.opened == 2
    assert opener.error("sends", "error", SEALING.text("sends", "error", "no: hello")) == "no: hello"


def test_what_can_not_be_opened_is_told() -> None:
    other = Sealing(Cipher(7, [DataKey.new(7, 2)]))
    content, _ = update_content(Opener(lambda: other, show=True), "message", SEALING.json("inbox", "payload", "{}"))
    assert "data key 1" in content.fault
    assert content.text is None


def test_odd_payloads_are_told_without_breaking() -> None:
    opener = Opener(lambda: UNSEALED, show=True)
    for payload in ('{"raw": "x"}', "[]", '{"message": 5}', '{"message": {"text": 5, "date": "x"}}', "null"):
        content, written = update_content(opener, "message", payload)
        assert content.text is None
        assert written is None
    for kind in ("message", "event"):
        assert update_content(opener, kind, '{"raw": "x"}')[0].type == "unreadable"


def test_a_masked_update_has_no_words_of_people() -> None:
    shown = masked(
        {"message": {"text": "hello", "entities": [{"type": "bold"}], "from": {"first_name": "Ada", "id": 3}}}
    )
    assert shown["message"]["text"] == "<5 characters>"
    assert shown["message"]["from"] == {"first_name": "<3 characters>", "id": 3}
    assert shown["message"]["entities"] == [{"type": "bold"}]
    assert "hello" not in json.dumps(masked({"raw": "hello"}))


def test_what_bots_have_written_is_masked_whatever_its_keys() -> None:
    """Data of events and jobs and an operator's parameters are anybody's; unknown keys of an update as well."""
    for payload in (
        {"id": "e1", "type": "a.b", "data": {"type": "secret", "status": ["secret"], "n": 5}},
        {"method": "sendMessage", "parameters": {"text": "secret", "id": "secret"}},
        {"message": {"poll": {"question": "secret", "options": [{"text": "secret"}]}, "new_key": "secret"}},
    ):
        assert "secret" not in json.dumps(masked(payload))
    assert masked({"id": "e1", "type": "a.b", "data": {"n": 5}}) == {"id": "e1", "type": "a.b", "data": {"n": 5}}


def test_an_operators_send_is_told_by_its_method() -> None:
    payload = '{"method": "sendMessage", "parameters": {"chat_id": 1, "text": "hello"}}'
    content, written = update_content(Opener(lambda: UNSEALED, show=True), "operation", payload)
    assert (content.type, content.text, written) == ("sendMessage", "hello", None)


def test_small_words() -> None:
    assert [chat_of(lane) for lane in ("chat:-5", "chat:7", "user:7", "other", "event:a.b")] == [
        -5,
        7,
        None,
        None,
        None,
    ]
    assert own_error("suspected: alone") is None
    assert own_error("ValueError: x") == "ValueError: x"
    opener = Opener(lambda: UNSEALED, show=False)
    assert event_note(opener, "assistant.failed", '{"error": "rate limit", "status": 429}') == "rate limit 429"
    assert event_note(opener, "message.sent", '{"error": "x"}') == ""
