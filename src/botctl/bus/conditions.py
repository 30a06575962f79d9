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


def _source(test: Test, bots: Mapping[str, int]) -> Condition:
    """A name that the fleet doesn't have is nobody's."""

    def ids(names: tuple[Any, ...]) -> frozenset[int]:
        return frozenset(
            found
            for name in names
            if (found := 0 if name == FLEET_SOURCE else name if isinstance(name, int) else bots.get(name)) is not None
        )

    given = test.model_fields_set
    wanted = [ids((test.eq,))] if "eq" in given else []
    wanted += [ids(test.in_)] if "in_" in given else []
    unwanted = ids(test.not_)
    return lambda data, publisher: publisher not in unwanted and all(publisher in one for one in wanted)


def _field(path: tuple[str, ...], test: Test) -> Condition:
    checks = _checks(test)

    def check(data: Mapping[str, Any], publisher: int) -> bool:
        value: Any = data
        for name in path:
            if not isinstance(value, dict) or (value := value.get(name, _MISSING)) is _MISSING:
                value = _MISSING
                break
        return all(one(value) for one in checks)

    return check


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
