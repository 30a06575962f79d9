"""What handlers keep comes back as it was; what can't is told by its place and type; nothing that is read runs."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import pickle
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Location, Message, Update

from botctl.bot.keeping.codec import UnreadableError, UnstorableError, decode, encode


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Order:
    number: int
    items: list[str]
    placed: datetime.date = datetime.date(2026, 1, 2)

    def __post_init__(self) -> None:
        RAN.append(self.number)


RAN: list[int] = []

VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**63,
    10**60,
    0.1,
    float("inf"),
    "",
    "Ada \N{PARTY POPPER} \x00 \ud800",
    {"a": {"b": [1, {"c": None}]}},
    {1: "int", (2, "x"): "tuple", None: 0, "$set": "no tag", 1.5: False},
    {"$set": [1]},
    {"$set": [1], "b": 2},
    (1, (2, ())),
    {1, "a", (2, 3)},
    frozenset({"x"}),
    deque([1, 2], maxlen=3),
    OrderedDict([("b", 1), ("a", 2)]),
    Counter("hello"),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {1: 2}),
    b"\x00\xff",
    bytearray(b"x"),
    datetime.datetime(2026, 11, 23, 8, 50, 0, 5),
    datetime.datetime(2026, 11, 23, 8, tzinfo=datetime.UTC),
    datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime.date(2026, 2, 3),
    datetime.time(1, 2, 3),
    datetime.timedelta(days=-1, microseconds=7),
    datetime.timezone(datetime.timedelta(hours=2), "two"),
    ZoneInfo("Asia/Tokyo"),
    Decimal("1.10"),
    uuid.UUID(int=7),
    1 + 2j,
    range(1, 9, 2),
    Colour.GREEN,
    Level.LOW,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {value!r:.30}".encode().hex()[:40])
def test_it_comes_back_as_it_was(value: Any) -> None:
    back = decode(encode({"kept": value}))["kept"]
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value) or isinstance(value, set | frozenset)


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
)


@given(
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
            | st.tuples(inner, inner)
            | st.sets(st.integers() | st.text())
        ),
        max_leaves=20,
    )
)
def test_whatever_is_made_of_these_comes_back(value: Any) -> None:
    text = encode(value)
    assert decode(text) == value
    assert encode(decode(text)) == text


def test_objects_of_telegram_come_back() -> None:
    location = Location(longitude=1.5, latitude=2.5)
    message = Message.de_json(
        {"message_id": 5, "date": 1700000000, "chat": {"id": 7, "type": "private"}, "text": "x"}, None
    )
    back = decode(encode({"where": location, "what": message}))
    assert back["where"] == location
    assert back["what"] == message
    assert back["what"].date == message.date
    assert isinstance(decode(encode(Update(5))), Update)


def test_a_dataclass_comes_back_without_being_called() -> None:
    order = Order(3, ["tea"])
    RAN.clear()
    assert decode(encode(order)) == order
    assert RAN == []


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"cart": {"lock": asyncio.Lock}}, "['cart']['lock']", "builtins.type"),
        ({"a": [1, object()]}, "['a'][1]", "builtins.object"),
        ({"a": {object(): 1}}, "['a'][key", "builtins.object"),
        ({"call": lambda: None}, "['call']", "builtins.function"),
        ({"by": defaultdict(lambda: 1)}, "['by']", "collections.defaultdict"),
    ],
)
def test_what_can_t_be_stored_is_told_by_its_place_and_type(value: Any, path: str, kind: str) -> None:
    with pytest.raises(UnstorableError) as error:
        encode(value)
    assert error.value.path.startswith(path)
    assert error.value.kind == kind


def test_what_holds_itself_is_told() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnstorableError):
        encode(loop)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$nothing": 1}',
        '{"$enum": ["os", "system", "x"]}',
        '{"$enum": ["antigravity", "X", "x"]}',
        '{"$dataclass": ["subprocess", "Popen", {"args": "x"}]}',
        '{"$telegram": ["Bot", {}]}',
        '{"$telegram": ["ext", {}]}',
        '{"$defaultdict": ["eval", []]}',
        '{"$decimal": "x"}',
        '{"$datetime": ["x", null]}',
        '{"$datetime": ["2026-01-01T00:00:00+00:00", "../../etc/passwd"]}',
    ],
)
def test_what_no_text_of_ours_says_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        decode(text)


def test_there_is_no_pickle() -> None:
    with pytest.raises(UnreadableError):
        decode(pickle.dumps({"a": 1}, 0).decode())


def test_what_holds_itself_twice_all_the_way_down_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botctl.bot.keeping.codec._MOST", 1000)
    doubling: list[Any] = []
    for _ in range(50):
        doubling = [doubling, doubling]
    with pytest.raises(UnstorableError, match="too much"):
        encode(doubling)
    with pytest.raises(UnstorableError, match="too much"):
        encode(["x" * 1000] * 100)
    shared = [1, 2, 3]
    assert decode(encode([shared] * 100)) == [shared] * 100
