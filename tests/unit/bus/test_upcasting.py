"""Chains of upcasters, in the catalogue and for a developer's own types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from botctl.bot.exchange.declared import DeclaredTypes
from botctl.bus.event_types.upcasting import upcast
from botctl.bus.events import Event, decode_event, encode_event
from botctl.errors import ProtocolError, UsageError


class Order(msgspec.Struct):
    item: str
    pieces: int = 1


class Model(BaseModel):
    item: str
    pieces: int = 1


@dataclass
class Plain:
    item: str
    pieces: int = 1


STEPS = {step: lambda data, step=step: {**data, "path": [*data.get("path", []), step]} for step in range(1, 9)}


@given(st.integers(1, 9), st.integers(1, 9))
def test_each_step_is_taken_once_and_in_order(version: int, newest: int) -> None:
    if version > newest:
        with pytest.raises(ProtocolError, match="newest known"):
            upcast("a.b", {}, version, newest, STEPS)
    else:
        assert upcast("a.b", {}, version, newest, STEPS).get("path", []) == list(range(version, newest))


def test_what_can_not_be_brought_on_says_where() -> None:
    with pytest.raises(ProtocolError, match="version 1 is too old"):
        upcast("a.b", {}, 1, 3, {2: dict})
    with pytest.raises(ProtocolError, match="version 1 can't be brought"):
        upcast("a.b", {}, 1, 2, {1: lambda data: {"x": data["missing"]}})
    with pytest.raises(ProtocolError, match="gave no dict"):
        upcast("a.b", {}, 1, 2, {1: lambda data: None})  # type: ignore[dict-item, return-value]


@pytest.mark.parametrize("schema", [Order, Model, Plain])
def test_data_are_checked_when_published_by_whatever_they_were_declared_with(schema: Any) -> None:
    types = DeclaredTypes()
    types.declare("order.placed", 2, schema)
    assert types.outgoing("order.placed", {"item": "tea"}, None) == ({"item": "tea"}, 2)
    assert types.outgoing("order.placed", schema(item="tea", pieces=3), None) == ({"item": "tea", "pieces": 3}, 2)
    for wrong in ({}, {"item": 5}, {"item": "tea", "pieces": "many"}):
        with pytest.raises(ProtocolError, match=r"order\.placed"):
            types.outgoing("order.placed", wrong, None)
    with pytest.raises(ProtocolError, match="declared as version 2"):
        types.outgoing("order.placed", {"item": "tea"}, 1)


def test_what_is_not_declared_is_free() -> None:
    types = DeclaredTypes()
    assert types.outgoing("a.b", {"x": [1]}, None) == ({"x": [1]}, 1)
    assert types.outgoing("a.b", None, 7) == ({}, 7)
    event = Event(id="x", type="a.b", version=9, occurred_at=1, data={"y": 1})
    assert types.incoming(event) is event
    with pytest.raises(ProtocolError, match="must be an object"):
        types.outgoing("a.b", [1], None)


class Counts(msgspec.Struct):
    at: dict[int, str]


class CountsModel(BaseModel):
    at: dict[int, str]


@pytest.mark.parametrize("schema", [Counts, CountsModel])
def test_what_can_be_published_can_be_read(schema: Any) -> None:
    """In JSON each key is text."""
    types = DeclaredTypes()
    types.declare("a.b", 1, schema)
    for data in ({"at": {1: "x"}}, schema(at={1: "x"})):
        made, _ = types.outgoing("a.b", data, None)
        event = decode_event(encode_event(Event(id="x", type="a.b", occurred_at=1, data=made)))
        assert types.incoming(event).data == {"at": {"1": "x"}}
    for wrong in ({"at": {"one": "x"}}, {"at": {1: object()}}):
        with pytest.raises(ProtocolError, match=r"a\.b"):
            types.outgoing("a.b", wrong, None)


@pytest.mark.parametrize("version", [0, -1, 1_000_001])
def test_a_version_that_no_reader_takes_is_refused_when_published(version: int) -> None:
    types = DeclaredTypes()
    with pytest.raises(ProtocolError, match="can't be published as version"):
        types.outgoing("a.b", {}, version)
    with pytest.raises(ValueError, match="versions are numbers"):
        types.declare("a.b", version)


def test_an_event_comes_in_the_declared_version_whatever_it_was_published_in() -> None:
    types = DeclaredTypes()
    first = {1: lambda data: {"item": data["what"]}, 2: lambda data: {**data, "pieces": int(data.get("n", 1))}}
    types.declare("order.placed", 3, Order, first)
    for version, data in ((1, {"what": "tea"}), (2, {"item": "tea"}), (3, {"item": "tea", "pieces": 1})):
        event = types.incoming(Event(id="x", type="order.placed", version=version, occurred_at=1, data=data))
        assert (event.version, event.data["item"], event.data.get("pieces")) == (3, "tea", 1)
    with pytest.raises(ProtocolError, match="3 is the newest known"):
        types.incoming(Event(id="x", type="order.placed", version=4, occurred_at=1, data={}))
    with pytest.raises(ProtocolError, match="not as declared"):
        types.incoming(Event(id="x", type="order.placed", version=3, occurred_at=1, data={"item": None}))


@pytest.mark.parametrize(
    ("name", "version", "upcasters"),
    [("order", 1, {}), ("order.*", 1, {}), ("bot.made", 1, {}), ("message.sent", 1, {}), ("a.b", 0, {}),
     ("a.b", 3, {1: dict}), ("a.b", 2, {2: dict}), ("a.b", 2, {0: dict, 1: dict})],
)  # fmt: skip
def test_declarations_that_can_not_be_are_refused(name: str, version: int, upcasters: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        DeclaredTypes().declare(name, version, None, upcasters)


def test_a_type_is_declared_once() -> None:
    types = DeclaredTypes()
    types.declare("a.b")
    with pytest.raises(ValueError, match="already"):
        types.declare("a.b")


def test_a_json_schema_is_checked_or_its_library_is_asked_for() -> None:
    types, schema = (
        DeclaredTypes(),
        {"type": "object", "required": ["item"], "properties": {"item": {"type": "string"}}},
    )
    try:
        import jsonschema  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="is missing"):
            types.declare("a.b", 1, schema)
        return
    types.declare("a.b", 1, schema)
    assert types.outgoing("a.b", {"item": "tea"}, None) == ({"item": "tea"}, 1)
    with pytest.raises(ProtocolError, match="not as declared"):
        types.outgoing("a.b", {"item": 5}, None)
