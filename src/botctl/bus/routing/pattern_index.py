"""Finds the subscriptions that may mean a type without looking at all: bots make up types as they like. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class PatternIndex(Generic[T]):
    """By what a pattern says for certain: all of the type, its first name, or else its last one."""

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        self._exact: dict[str, list[T]] = {}
        self._first: dict[str, list[T]] = {}
        self._last: dict[str, list[T]] = {}
        self._others: list[T] = []
        for pattern, entry in entries:
            first, last = pattern.partition(".")[0], pattern.rpartition(".")[2]
            if "*" not in pattern:
                self._exact.setdefault(pattern, []).append(entry)
            elif first != "*":
                self._first.setdefault(first, []).append(entry)
            elif last != "*":
                self._last.setdefault(last, []).append(entry)
            else:
                self._others.append(entry)

    def candidates(self, event_type: str) -> Iterator[T]:
        """All whose pattern means this type, and some others."""
        yield from self._exact.get(event_type, ())
        yield from self._first.get(event_type.partition(".")[0], ())
        yield from self._last.get(event_type.rpartition(".")[2], ())
        yield from self._others
