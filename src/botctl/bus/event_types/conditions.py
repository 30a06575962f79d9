"""Conditions of subscriptions, made into functions once so that each event costs a few comparisons. Pure.

What they mean is said in `fleet/subscriptions.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from botctl.fleet.subscriptions import FLEET_SOURCE, SOURCE, Subscription, Test, path_of

Condition = Callable[[Mapping[str, Any], int], bool]
"""Asked with an event's data and its publisher, 0 for the fleet."""

Path = tuple[str, ...]
"""Names that lead into an event's data."""

_MISSING: Any = object()
_OTHER: Any = object()
_ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def compile_condition(entry: Subscription, bots: Mapping[str, int]) -> Condition | None:
    """The condition of an entry, None if it has none. `bots` are the ids of the fleet's bots by name."""
    checks = [_source(test, bots) if key == SOURCE else _field(path_of(key), test) for key, test in entry.where.items()]
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]
    return lambda data, publisher: all(check(data, publisher) for check in checks)


def narrowest(entry: Subscription, bots: Mapping[str, int]) -> tuple[Path | None, frozenset[Any]] | None:
    """What an event must have, one of these at this path in its data (None: as its publisher), for all of it to hold.

    Of several such tests the one with the fewest values; None if there is none. Values are as `key_at` gives them.
    """
    found: list[tuple[Path | None, frozenset[Any]]] = []
    for name, test in entry.where.items():
        for word, values in (("eq", (test.eq,)), ("in_", test.in_)):
            if word in test.model_fields_set:
                keys = _ids(values, bots) if name == SOURCE else frozenset(map(_key, values))
                found.append((None if name == SOURCE else path_of(name), keys))
    return min(found, key=lambda one: len(one[1]), default=None)


def key_at(data: Mapping[str, Any], path: Path) -> Any:
    """What stands there, in a form to be looked up by."""
    return _key(_at(data, path))


def _ids(names: tuple[Any, ...], bots: Mapping[str, int]) -> frozenset[int]:
    """A name that the fleet doesn't have is nobody's."""
    return frozenset(
        found
        for name in names
        if (found := 0 if name == FLEET_SOURCE else name if isinstance(name, int) else bots.get(name)) is not None
    )


def _source(test: Test, bots: Mapping[str, int]) -> Condition:
    given = test.model_fields_set
    wanted = [_ids((test.eq,), bots)] if "eq" in given else []
    wanted += [_ids(test.in_, bots)] if "in_" in given else []
    unwanted = _ids(test.not_, bots)
    return lambda data, publisher: publisher not in unwanted and all(publisher in one for one in wanted)


def _field(path: Path, test: Test) -> Condition:
    checks = _checks(test)

    def check(data: Mapping[str, Any], publisher: int) -> bool:
        value = _at(data, path)
        return all(one(value) for one in checks)

    return check


def _at(data: Mapping[str, Any], path: Path) -> Any:
    value: Any = data
    for name in path:
        if not isinstance(value, dict) or (value := value.get(name, _MISSING)) is _MISSING:
            return _MISSING
    return value


def _checks(test: Test) -> list[Callable[[Any], bool]]:
    given, checks = test.model_fields_set, list[Callable[[Any], bool]]()
    if "exists" in given:
        wanted = test.exists
        checks.append(lambda value: (value is not _MISSING) is wanted)
    if "eq" in given:
        one = _key(test.eq)
        checks.append(lambda value: _key(value) == one)
    if "in_" in given:
        several = frozenset(map(_key, test.in_))
        checks.append(lambda value: _key(value) in several)
    if "not_" in given:
        none = frozenset(map(_key, test.not_))
        checks.append(lambda value: _key(value) not in none)
    for name, order in _ORDERS.items():
        if name in given:
            checks.append(_ordered(order, getattr(test, name)))
    if "prefix" in given:
        prefix = test.prefix
        checks.append(lambda value: isinstance(value, str) and value.startswith(prefix))
    return checks


def _ordered(order: Callable[[Any, Any], bool], limit: Any) -> Callable[[Any], bool]:
    if isinstance(limit, str):
        return lambda value: isinstance(value, str) and order(value, limit)
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and order(value, limit)


def _key(value: Any) -> Any:
    """The same exactly for values that are equal in JSON; lists and objects equal nothing that can be written here."""
    if isinstance(value, bool):
        return (bool, value)
    if value is None or isinstance(value, str | int | float):
        return value
    return _OTHER
