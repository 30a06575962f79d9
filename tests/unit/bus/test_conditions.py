"""Conditions of subscriptions: each operator, and all of them against a plain reading of what they mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from botctl.bus.event_types.conditions import compile_condition
from botctl.bus.events import Event
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.roster import Member, Roster
from botctl.fleet.subscriptions import Subscription

MISSING = object()


def holds(where: dict[str, Any], data: dict[str, Any], publisher: int = 9) -> bool:
    condition = compile_condition(Subscription(type="*", where=where), {"shop": 7})
    return condition is None or condition(data, publisher)


@pytest.mark.parametrize(
    ("where", "yes", "no"),
    [
        ({"a": 1}, [{"a": 1}, {"a": 1.0}], [{}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": None}]),
        ({"a": True}, [{"a": True}], [{"a": 1}, {"a": "true"}, {}]),
        ({"a": None}, [{"a": None}], [{}, {"a": 0}, {"a": ""}]),
        ({"a": ["x", 2, None]}, [{"a": "x"}, {"a": 2}, {"a": None}], [{}, {"a": 3}, {"a": ["x"]}]),
        ({"a": {"not": "x"}}, [{"a": "y"}, {}, {"a": ["x"]}], [{"a": "x"}]),
        ({"a": {"not": ["x", 2]}}, [{"a": 3}, {}], [{"a": "x"}, {"a": 2.0}]),
        ({"a": {"gt": 2}}, [{"a": 3}, {"a": 2.5}], [{"a": 2}, {"a": "3"}, {"a": True}, {}]),
        ({"a": {"gte": 2, "lt": 4}}, [{"a": 2}, {"a": 3.9}], [{"a": 4}, {"a": 1}]),
        ({"a": {"lte": "m"}}, [{"a": "m"}, {"a": ""}], [{"a": "n"}, {"a": 1}]),
        ({"a": {"exists": True}}, [{"a": None}, {"a": 0}], [{}]),
        ({"a.b": {"exists": False}}, [{}, {"a": 1}, {"a": {}}, {"a": [{"b": 1}]}], [{"a": {"b": None}}]),
        ({"a": {"prefix": "bi"}}, [{"a": "bike"}, {"a": "bi"}], [{"a": "b"}, {"a": 5}, {}]),
        ({"a.b.c": 1}, [{"a": {"b": {"c": 1}}}], [{"a": {"b": 1}}, {"a.b.c": 1}, {"a": {"b": [1]}}]),
        ({"data.source": 1}, [{"source": 1}], [{}, {"data": {"source": 1}}]),
        ({"data.data": 1}, [{"data": 1}], [{"data": {"data": 1}}]),
        ({"a": 1, "b": 2}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
        ({}, [{}], []),
    ],
)
def test_a_condition_holds_for_these(where: dict[str, Any], yes: list[Any], no: list[Any]) -> None:
    assert [holds(where, data) for data in yes] == [True] * len(yes)
    assert [holds(where, data) for data in no] == [False] * len(no)


@pytest.mark.parametrize(
    "where",
    [
        {"": 1}, {"a..b": 1}, {"data.": 1}, {"a": {}}, {"a": {"like": 1}}, {"a": {"in": []}}, {"a": {"gt": None}},
        {"a": {"gt": True}}, {"a": {"gt": [1]}}, {"a": {"exists": 1}}, {"a": {"prefix": ""}}, {"a": {"prefix": 1}},
        {"a": float("nan")}, {"a": [{}]}, {"a": "x" * 201}, {"a": list(range(201))}, {"source": {"gt": 1}},
        {"source": None}, {"source": 1.5}, {"source": True}, {str(n): 1 for n in range(17)},
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Subscription(type="a.b", where=where)


values = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, "", "a", "ab"])
orderable = st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a", "ab"])
names = st.sampled_from(["a", "b"])
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
trees = st.recursive(values, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
several = st.lists(values, min_size=1, max_size=3)
operators = {
    "eq": values, "in": several, "not": several, "gt": orderable, "gte": orderable, "lt": orderable, "lte": orderable,
    "exists": st.booleans(), "prefix": st.sampled_from(["a", "ab"]),
}  # fmt: skip
tests = values | several | st.fixed_dictionaries({}, optional=operators).filter(bool)


def equal(one: Any, other: Any) -> bool:
    """As JSON has it."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and isinstance(one, str | None) and one == other


def passes(word: str, value: Any, wanted: Any) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, wanted))
    texts = isinstance(value, str) and isinstance(wanted, str)
    match word:
        case "eq":
            return equal(value, wanted)
        case "in":
            return any(equal(value, one) for one in wanted)
        case "not":
            return not any(equal(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))
        case "gt":
            return (numbers or texts) and value > wanted
        case "gte":
            return (numbers or texts) and value >= wanted
        case "lt":
            return (numbers or texts) and value < wanted
        case "lte":
            return (numbers or texts) and value <= wanted
        case "exists":
            return (value is not MISSING) == wanted
    return texts and value[: len(wanted)] == wanted


def naive(where: dict[str, Any], data: dict[str, Any]) -> bool:
    for key, test in where.items():
        value: Any = data
        for name in key.split("."):
            value = value[name] if isinstance(value, dict) and name in value else MISSING
        plain = {"in": test} if isinstance(test, list) else {"eq": test}
        if not all(passes(word, value, wanted) for word, wanted in (test if isinstance(test, dict) else plain).items()):
            return False
    return True


@given(st.dictionaries(paths, tests, max_size=3), st.dictionaries(names, trees, max_size=2))
def test_compiled_conditions_mean_what_a_plain_reading_means(where: dict[str, Any], data: dict[str, Any]) -> None:
    assert holds(where, data) is naive(where, data)


few = st.sampled_from([1, "a", True])
wheres = st.dictionaries(names | st.just("source"), few | st.lists(few, min_size=1, max_size=2), max_size=2)
wheres |= st.dictionaries(paths, tests, max_size=2)
fleets = st.lists(st.lists(wheres.map(lambda where: where | sourced(where)), max_size=3), max_size=4)


def sourced(where: dict[str, Any]) -> dict[str, Any]:
    return {"source": ["shop", 3, "fleet"][len(str(where)) % 3]} if "source" in where else {}


@given(fleets, st.dictionaries(names, few | trees, max_size=2), st.sampled_from([0, 3, 7, 9]))
def test_whoever_is_looked_up_is_whom_asking_everybody_finds(
    fleet: list[list[dict[str, Any]]], data: dict[str, Any], publisher: int
) -> None:
    members = {
        100 + place: Member(subscribe=tuple(Subscription(type="*", where=where) for where in entries))
        for place, entries in enumerate(fleet)
    }
    fanout = Fanout()
    fanout.update(Roster({7: Member(name="shop"), **members}))
    sources = {"shop": 7, 3: 3, "fleet": 0}
    wanted = [
        100 + place
        for place, entries in enumerate(fleet)
        if any(
            naive({key: test for key, test in where.items() if key != "source"}, data)
            and ("source" not in where or sources[where["source"]] == publisher)
            for where in entries
        )
    ]
    found = fanout.receivers(Event(id="x", type="a.b", occurred_at=1, data=data), publisher)
    assert sorted(found) == wanted  # type: ignore[type-var]


@given(st.dictionaries(paths, tests, max_size=3))
def test_a_subscription_comes_back_from_json_as_it_was(where: dict[str, Any]) -> None:
    entry = Subscription(type="a.*", where=where)
    again = Subscription.model_validate_json(entry.model_dump_json())
    assert (again, again.model_dump_json()) == (entry, entry.model_dump_json())
