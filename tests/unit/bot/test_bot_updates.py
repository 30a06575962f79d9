"""Reading answers of getUpdates: rows, lanes, cleaning; nothing odd stops a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bot.receiving.incoming import read_incoming
from botctl.bot.receiving.updates import ALLOWED_UPDATES, chat_of_lane, read_batch
from botctl.storage import cleaning
from botctl.storage.raw_json import items_of


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


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "odd",
    [
        b'{"update_id":5,"message":' + DEEP + b"}",
        b'{"message":' + DEEP + b', "update_id" : 5 }',
        b'{"update_id":5,"message":{"n":' + b"7" * 5000 + b"}}",
        b'{"update_id":5,"message":{"update_id":9,"text":"\\"]},{\\\\","n":}}',
        b'{"update_id":5,"message":"\xff\x00',
    ],
)
def test_what_no_parser_takes_becomes_a_dead_letter_with_its_text(odd: bytes) -> None:
    odd = odd if odd.endswith(b"}") else odd + b'",}'
    around = [b'{"update_id":4,"poll":{"q":"],[}{"}}', b'{"update_id":6,"poll":{}}']
    body = b'{"ok":true,"n":{"result":[1]},"x":"result","result" : [' + b" , ".join([around[0], odd, around[1]]) + b"]}"
    batch = read_batch(body, lambda: "t")
    assert [row.update_id for row in batch.rows] == [4, 5, 6]
    assert [row.dead is None for row in batch.rows] == [True, False, True]
    assert batch.next_offset == 7
    dead = batch.rows[1]
    assert (dead.cause, dead.kind) == ("update:5", "message")
    assert json.loads(dead.payload)["raw"] == odd.decode("utf-8", "replace").replace("\x00", "\ufffd")


def test_what_no_parser_takes_and_has_no_usable_id_is_told() -> None:
    body = (
        b'{"result":[{"message":{"update_id":3},"x":'
        + DEEP
        + b'},{"update_id":1234567890123456789012},{"update_id":8}]}'
    )
    batch = read_batch(body, lambda: "t")
    assert [row.update_id for row in batch.rows] == [8]
    assert len(batch.unusable) == 2


_any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers(0, 9) | _any_text, lambda one: st.lists(one) | st.dictionaries(_any_text, one)
        )
    )
)
def test_items_are_found_without_a_parser(items: list[Any]) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"a": {"result": []}, "result": items, "z": "]"}, ensure_ascii=ascii_only).encode()
        assert [json.loads(item) for item in items_of(body, "result")] == items


@pytest.mark.parametrize("body", [b'{"result":[{"update_id":1},', b'[{"result":[]}]', b'{"a":{"result":[]}}'])
def test_no_items_in_what_is_cut_or_elsewhere(body: bytes) -> None:
    with pytest.raises(ValueError, match="list"):
        items_of(body, "result")


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
