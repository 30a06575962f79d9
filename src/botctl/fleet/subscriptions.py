"""What `subscribe:`, `answers:` and a group's `subscribe:` say: patterns of event types, with conditions or without.

Pure. A pattern is a type, `*` for every type, or a type with `*` for one or more whole names: `bot.*`, `*.failed`,
`shop.*.paid`. A trailing `*` stands for one name or more, any other for exactly one. Conditions are a closed language
of comparisons with constants, so that the router can afford them for every event;
`bus/event_types/conditions.py` runs them.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_serializer,
    model_validator,
)

SOURCE = "source"
"""The key of `where:` that means the event's source; every other one is a path into its data."""

FLEET_SOURCE = "fleet"
"""What `source` calls the fleet itself."""

MOST_CONDITIONS = 16
MOST_VALUES = 200
MOST_ENTRIES = 100
"""Of one `where:`, of one list of values, of one `subscribe:`: each costs the router time for every event."""

_PATTERN = re.compile(r"(\*|[a-z][a-z0-9_]*)(\.(\*|[a-z0-9_]+))*")
_LONGEST = 200
TAG = "~"
"""Begins a part of an error's place that isn't in the file."""


def is_pattern(text: str) -> bool:
    """Whether this is a pattern that could ever match."""
    return len(text) <= 100 and _PATTERN.fullmatch(text) is not None and (text == "*" or "." in text)


def is_exact(pattern: str) -> bool:
    """Whether the pattern names one type only."""
    return "*" not in pattern


def matches(pattern: str, event_type: str) -> bool:
    """Whether an event of this type is meant by the pattern."""
    if "*" not in pattern:
        return pattern == event_type
    wanted = pattern.split(".")
    names = event_type.split(".")
    if wanted[-1] == "*":
        if len(names) < len(wanted):
            return False
    elif len(names) != len(wanted):
        return False
    return all(want in ("*", name) for want, name in zip(wanted, names, strict=False))


def path_of(key: str) -> tuple[str, ...]:
    """The names to follow in an event's data. `data.` may stand before, and must before a field called `source`."""
    return tuple(key.removeprefix("data.").split("."))


def _pattern(text: str) -> str:
    if not is_pattern(text):
        raise ValueError(f"{text!r} is no event type or pattern, such as order.placed or order.*")
    return text


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST:
        return value
    raise ValueError(f"must be text of at most {_LONGEST} characters, a number, true, false or null; "
                     "put what YAML takes for a date into quotes")  # fmt: skip


def _orderable(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a number or a text to be compared with")
    return _scalar(value)


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Pattern = Annotated[str, AfterValidator(_pattern)]
Scalar = Annotated[Any, AfterValidator(_scalar)]
Orderable = Annotated[Any, AfterValidator(_orderable)]
Values = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MOST_VALUES)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Test(_Model):
    """What one field is compared with; all that are given must hold. A field that isn't there passes only what says so.

    Only `not` and `exists: false` hold for a field that is missing. Text is compared with text and numbers with
    numbers, anything else is unequal and in no order. Values are equal as in JSON: 1 is 1.0, and true is not 1.
    """

    __test__ = False  # for pytest

    eq: Scalar = None
    in_: Values = Field(default=(), alias="in")
    not_: Annotated[Values, BeforeValidator(_several)] = Field(default=(), alias="not")
    gt: Orderable = None
    gte: Orderable = None
    lt: Orderable = None
    lte: Orderable = None
    exists: Annotated[bool, Field(strict=True)] = True
    prefix: Annotated[str, Field(min_length=1, max_length=_LONGEST)] = ""

    @model_validator(mode="after")
    def _says_something(self) -> Test:
        if not self.model_fields_set:
            raise ValueError(
                "must say what the field is compared with: eq, in, not, gt, gte, lt, lte, exists or prefix"
            )
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {
            name.rstrip("_"): list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in type(self).model_fields
            if name in self.model_fields_set
        }


def _test(value: Any) -> Any:
    """A plain value means equality, a list one of."""
    if isinstance(value, dict | Test):
        return value
    return {"in": value} if isinstance(value, list | tuple) else {"eq": value}


def _key(key: str) -> str:
    if not key or len(key) > _LONGEST or not all(path_of(key)):
        raise ValueError("must be source, or names joined by dots that lead into the event's data")
    return key


Where = Annotated[
    dict[Annotated[str, AfterValidator(_key)], Annotated[Test, BeforeValidator(_test)]],
    Field(max_length=MOST_CONDITIONS),
]


class Subscription(_Model):
    """Events of a type or pattern for which all of `where` holds."""

    type: Pattern
    where: Where = {}

    @model_validator(mode="after")
    def _sources_are_named(self) -> Subscription:
        test = self.where.get(SOURCE)
        if test is not None:
            if not test.model_fields_set <= {"eq", "in_", "not_"}:
                raise ValueError("source can only be one, one of several, or not: eq, in, not")
            if any(not isinstance(one, str | int) or isinstance(one, bool) for one in sources_of(test)):
                raise ValueError("source must be the name or the id of a bot, or fleet")
        return self


def sources_of(test: Test) -> tuple[Any, ...]:
    """All names and ids that a test of `source` names."""
    return (*((test.eq,) if "eq" in test.model_fields_set else ()), *test.in_, *test.not_)


def _kind(value: Any) -> str:
    return f"{TAG}where" if isinstance(value, dict | Subscription) else f"{TAG}pattern"


Entry = Annotated[
    Annotated[Pattern, Tag(f"{TAG}pattern")] | Annotated[Subscription, Tag(f"{TAG}where")], Discriminator(_kind)
]
"""A pattern, or one with conditions."""

Entries = Annotated[tuple[Entry, ...], Field(max_length=MOST_ENTRIES)]


def subscription(entry: str | Subscription) -> Subscription:
    """The entry in its long form."""
    return Subscription(type=entry) if isinstance(entry, str) else entry


def pattern_of(entry: str | Subscription) -> str:
    """The entry's pattern alone."""
    return entry if isinstance(entry, str) else entry.type
