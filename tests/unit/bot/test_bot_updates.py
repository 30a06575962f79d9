"""Reading answers of getUpdates: rows, lanes, cleaning; nothing odd stops a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bot import cleaning
from botctl.bot.incoming import read_incoming
from botctl.bot.updates import ALLOWED_UPDATES, chat_of_lane, read_batch


def batch_of(*updates: Any) -> Any:
    return read_batch(json.dumps({"ok": True, "result": list(updates)}).encode(), lambda: "t")


def test_an_update_becomes_a_row() -> None:
    batch = batch_of({"update_id": 7, "message": {"chat": {"id": -5}, "text": "x"}})
    (row,) = batch.rows
    assert (row.cause, row.update_id, row.kind, row.lane, row.trace_id) == ("update:7", 7, "message", "chat:-5", "t")
    assert batch.next_offset == 8
    assert chat_of_lane(row.lane) == -5


@pytest.mark.parametrize(
    ("update", "lane"),
    [
        ({"callback_query": {"from": {"id": 2}, "message": {"chat": {"id": 3}}}}, "chat:3"),
        ({"callback_query": {"from": {"id": 2}}}, "user:2"),
        ({"inline_query": {"from": {"id": 2}}}, "user:2"),
        ({"poll": {"id": "1"}}, "other"),
        ({"message": {"chat": {"id": "odd"}}}, "other"),
        ({"message": []}, "other"),
        ({}, "other"),
    ],
)
def test_the_lane_is_the_chat_or_whoever_acts(update: dict[str, Any], lane: str) -> None:
    assert batch_of({"update_id": 1, **update}).rows[0].lane == lane


@pytest.mark.parametrize(
    "odd", [1, "x", None, [], {}, {"update_id": "7"}, {"update_id": True}, {"update_id": -1}, {"update_id": 2**64}]
)
def test_what_has_no_usable_id_is_told_and_the_others_are_kept(odd: Any) -> None:
    batch = batch_of({"update_id": 1, "poll": {}}, odd, {"update_id": 2, "poll": {}})
    assert [row.update_id for row in batch.rows] == [1, 2]
    assert len(batch.unusable) == 1


def test_an_empty_answer_has_no_offset() -> None:
    assert batch_of().next_offset is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"result": 1}', b"<html>"])
def test_no_answer_of_getupdates_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_batch(body, lambda: "t")


def test_nul_and_lone_surrogates_are_replaced_in_keys_and_values() -> None:
    odd = rb'{"update_id":1,"a\u0000":["\ud800x","\ud83d\ude00"]}'
    body = b'{"ok":true,"result":[' + odd + b',{"update_id":2,"poll":{"q":"fine"}}]}'
    first, second = read_batch(body, lambda: "t").rows
    assert json.loads(first.payload) == {"update_id": 1, "a\ufffd": ["\ufffdx", "\U0001f600"]}
    assert json.loads(second.payload)["poll"] == {"q": "fine"}


_texts = st.text(st.characters(codec=None), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(_texts, children, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_whatever_is_sent_can_be_stored(value: Any) -> None:
    payload = batch_of({"update_id": 1, "message": value}).rows[0].payload
    assert "\\u0000" not in payload
    assert not any(
        "\ud800" <= character <= "\udfff" for character in json.dumps(json.loads(payload), ensure_ascii=False)
    )
    payload.encode()


@given(_texts)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert cleaning.clean_text(cleaning.clean_text(text)) == cleaning.clean_text(text)


def test_every_kind_is_asked_for() -> None:
    from telegram import Update

    assert set(ALLOWED_UPDATES) >= set(Update.ALL_TYPES)


def test_the_facts_of_a_message() -> None:
    facts = read_incoming(
        "message",
        {"message": {"chat": {"id": 1}, "message_thread_id": 9, "is_topic_message": True, "caption": "c",
                     "from": {"id": 2, "first_name": "A", "last_name": 3}}},
    )  # fmt: skip
    assert (facts.chat_id, facts.thread_id, facts.user_id, facts.text) == (1, 9, 2, "c")
    assert facts.person is not None
    assert facts.person.last_name is None


@pytest.mark.parametrize(
    "update", [{}, {"message": 1}, {"message": {"chat": 1, "from": 2}}, {"message": {"from": {"id": "x"}}}]
)
def test_facts_of_odd_updates_are_left_out(update: dict[str, Any]) -> None:
    facts = read_incoming("message", update)
    assert facts.chat_id is None
    assert facts.person is None
