"""Texts and JSON values in columns: what goes in comes out, sealed or clear, and nothing clear reads as sealed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.errors import VaultError
from botctl.security.vault import Cipher, DataKey
from botctl.storage.sealing import UNSEALED, Sealing

CIPHER = Cipher(7, [DataKey(7, 1, bytes(32))])
SEALED, CLEAR = Sealing(CIPHER, seals=True), Sealing(CIPHER)
FOREIGN = Sealing(Cipher(8, [DataKey(8, 1, bytes(32))]), seals=True)

MARKS = ["$sealed:", "$clear:", "/$sealed:", "/$clear:", "$sealed", "//$sealed:", "/"]
texts = st.text(max_size=200) | st.builds("".join, st.lists(st.sampled_from([*MARKS, "AAAA", "x"]), max_size=5))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$sealed", "$clear", "a", "zzzzzzzzzz"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def as_jsonb(text: str) -> str:
    """As PostgreSQL gives back what it was given as jsonb: keys by length and bytes, one space behind colons."""

    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: ordered(value[key]) for key in sorted(value, key=lambda key: (len(key.encode()), key))}
        return [ordered(item) for item in value] if isinstance(value, list) else value

    return json.dumps(ordered(json.loads(text)), ensure_ascii=False)


@given(texts)
@pytest.mark.parametrize("sealing", [SEALED, CLEAR, UNSEALED])
def test_a_text_comes_back_as_it_was(sealing: Sealing, text: str) -> None:
    stored = sealing.text("messages", "text", text)
    assert sealing.read_text("messages", "text", stored) == text
    if sealing is not UNSEALED:
        assert CLEAR.read_text("messages", "text", stored) == text, "also when text is not sealed any more"


@given(values)
@pytest.mark.parametrize("sealing", [SEALED, CLEAR, UNSEALED])
def test_a_json_value_comes_back_as_it_was(sealing: Sealing, value: Any) -> None:
    for encoded in (json.dumps(value), json.dumps(value, separators=(",", ":"), ensure_ascii=False)):
        stored = as_jsonb(sealing.json("inbox", "payload", encoded))
        assert json.loads(sealing.read_json("inbox", "payload", stored)) == value
        if sealing is not UNSEALED:
            assert json.loads(CLEAR.read_json("inbox", "payload", stored)) == value


def test_what_is_sealed_shows_nothing_but_that_it_is_a_command() -> None:
    stored = SEALED.text("messages", "text", "a secret")
    assert stored is not None
    assert stored.startswith("$sealed:")
    assert "secret" not in stored
    assert b"secret" not in base64.b64decode(stored.removeprefix("$sealed:"))
    assert str(SEALED.text("messages", "text", "/reset now")).startswith("/$sealed:")
    document = json.loads(SEALED.json("inbox", "payload", '{"text":"a secret"}'))
    assert list(document) == ["$sealed"]


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_and_the_empty_text_stay(text: str | None) -> None:
    assert SEALED.text("messages", "text", text) == text
    assert SEALED.read_text("messages", "text", text) == text


def test_rows_from_before_sealing_are_read_as_they_are() -> None:
    assert SEALED.read_text("messages", "text", "hello") == "hello"
    assert SEALED.read_json("inbox", "payload", '{"update_id": 1}') == '{"update_id": 1}'
    assert SEALED.read_json("messages", "entities", '[{"type": "bold"}]') == '[{"type": "bold"}]'


@pytest.mark.parametrize("reader", [FOREIGN, UNSEALED, SEALED])
def test_what_was_sealed_for_another_place_or_bot_is_refused(reader: Sealing) -> None:
    column = "text" if reader is not SEALED else "entities"
    stored = SEALED.text("messages", "text", "hello")
    with pytest.raises(VaultError, match=f"messages.{column}"):
        reader.read_text("messages", column, stored)
    with pytest.raises(VaultError):
        reader.read_json("sends", "payload", as_jsonb(SEALED.json("inbox", "payload", "{}")))


def test_a_mark_without_a_sealed_value_is_refused() -> None:
    with pytest.raises(VaultError, match="marked as sealed, and is not"):
        SEALED.read_text("messages", "text", "$sealed:!")
    with pytest.raises(VaultError, match="no sealed value"):
        SEALED.read_text("messages", "text", "$sealed:AAAA")


def test_sealing_without_a_cipher_is_a_mistake_found_at_once() -> None:
    with pytest.raises(VaultError, match="nothing to seal it with"):
        Sealing(None, seals=True)
