"""Events as bytes: what goes in comes out, and nothing impossible gets through."""

from __future__ import annotations

import json
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bus.events import MAX_EVENT_BYTES, Event, decode_event, encode_event, event_id, may_use
from botctl.errors import ProtocolError

names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(names, min_size=2, max_size=4), st.dictionaries(texts, values, max_size=4), st.floats(0, 4e9), labels)
def test_an_event_comes_back_as_it_was(parts: list[str], data: dict[str, object], at: float, trace: str) -> None:
    event = Event(id="x", type=".".join(parts), occurred_at=at, correlation_id=trace, data=data)
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_are_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_event(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"id":"","type":"a.b","occurred_at":1}',
        b'{"id":"x","type":"nodot","occurred_at":1}',
        b'{"id":"x","type":"A.b","occurred_at":1}',
        b'{"id":"x","type":"a..b","occurred_at":1}',
        b'{"id":"x","type":"a.b\\n","occurred_at":1}',
        b'{"id":"x","type":"a.b","occurred_at":-1}',
        b'{"id":"x","type":"a.b","occurred_at":1e999}',
        b'{"id":"x","type":"a.b","occurred_at":NaN}',
        b'{"id":"x","type":"a.b","occurred_at":1,"version":0}',
        b'{"id":"x","type":"a.b","occurred_at":1,"data":[]}',
        b'{"id":1,"type":"a.b","occurred_at":1}',
        b'{"id":"x","type":"a.b","occurred_at":1,"data":{"a":"\\ud800"}}',
        b'{"id":"x","type":"a.b","occurred_at":1,"data":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{"id":"x","type":"a.b","occurred_at":1,"data":' + b'{"a":' * 65 + b"1" + b"}" * 65 + b"}",
        b'{"id":"x","type":"a.b","occurred_at":1,"data":{"a":' + b"[" * 65 + b"]" * 65 + b"}}",
        b"\xff\xfe",
    ],
)
def test_a_malformed_event_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_event(body)


@pytest.mark.parametrize(
    "name", ["id", "source", "correlation_id", "causation_id", "to", "reply_to", "error", "source_name"]
)
def test_a_nul_character_stands_in_data_only(name: str) -> None:
    event = Event(**{"id": "x", "type": "a.b", "occurred_at": 1, name: "a\0b"})
    with pytest.raises(ProtocolError, match=f"`{name}` of an event has a NUL character"):
        encode_event(event)
    with pytest.raises(ProtocolError, match=f"`{name}` of an event has a NUL character"):
        decode_event(msgspec.json.encode(event))
    in_data = Event(id="x", type="a.b", occurred_at=1, data={name: "a\0b"})
    assert decode_event(encode_event(in_data)) == in_data


def test_an_unknown_envelope_key_is_left_out_so_that_later_versions_may_add() -> None:
    assert decode_event(b'{"id":"x","type":"a.b","occurred_at":1,"priority":9}').id == "x"


def test_an_event_over_the_limit_is_refused_when_written_and_when_read() -> None:
    big = Event(id="x", type="a.b", occurred_at=1, data={"text": "x" * MAX_EVENT_BYTES})
    with pytest.raises(ProtocolError, match="65536 are allowed"):
        encode_event(big)
    with pytest.raises(ProtocolError, match="65536 are allowed"):
        decode_event(json.dumps({"id": "x", "type": "a.b", "occurred_at": 1, "data": {"t": "x" * 65536}}).encode())


@pytest.mark.parametrize("data", [{"a": object()}, {"a": "\udc80"}, {1: {2: {3, object}}}])
def test_data_that_is_no_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        encode_event(Event(id="x", type="a.b", occurred_at=1, data=data))


def test_data_too_deep_for_a_reader_are_refused_when_written() -> None:
    data: dict[str, object] = {}
    for _ in range(64):
        data = {"a": data}
    with pytest.raises(ProtocolError, match="deeper than 64"):
        encode_event(Event(id="x", type="a.b", occurred_at=1, data=data))


def test_data_that_contains_itself_is_refused() -> None:
    data: dict[str, object] = {}
    data["self"] = data
    with pytest.raises(ProtocolError):
        encode_event(Event(id="x", type="a.b", occurred_at=1, data=data))


def test_a_replay_makes_the_same_event_ids_and_anything_else_makes_others() -> None:
    assert event_id(1, "update:7", 0) == event_id(1, "update:7", 0)
    ids = {
        event_id(bot, cause, n)
        for bot in (1, 2, 11)
        for cause in ("update:7", "update:8", "1|update:7")
        for n in (0, 1)
    }
    assert len(ids) == 18


def test_an_id_says_whose_it_is_and_only_that_bot_may_use_it() -> None:
    for bot in (0, 1, 11):
        assert may_use(bot, event_id(bot, "update:7", 0))
        assert not any(may_use(other, event_id(bot, "update:7", 0)) for other in (0, 1, 11, 111) if other != bot)


def test_an_id_from_before_ids_had_owners_goes_through() -> None:
    assert may_use(11, "11111111-0b8d-5b0c-9c35-0b8d2d1b7a11")
