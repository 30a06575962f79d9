"""Different statements as one: their texts, joined. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

Parameters = tuple[Any, ...]

_PLAIN = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE)\s+(\w+)\s")
_NUMBER = re.compile(r"\$(\d+)")
_KEPT = 64


def merged(waiting: list[tuple[str, list[Parameters]]]) -> list[tuple[str, list[Parameters]]]:
    """Different statements as one, if each is done once and they write to tables of their own.

    Parts of one statement don't see what the others write, so none may need another's rows.
    """
    if len(waiting) < 2 or any(len(parameters) > 1 for _, parameters in waiting):
        return waiting
    sql = _merge(tuple(sql for sql, _ in waiting))
    return waiting if sql is None else [(sql, [tuple(one for _, (values,) in waiting for one in values)])]


@lru_cache(maxsize=_KEPT)
def _merge(statements: Sequence[str]) -> str | None:
    found = [_PLAIN.match(sql) for sql in statements]
    tables = [match.group(1) for match in found if match is not None]
    if len(set(tables)) < len(statements):
        return None
    parts, before = [], 0
    for sql in statements:
        numbers = [int(number) for number in _NUMBER.findall(sql)]
        parts.append(_NUMBER.sub(partial(_moved, before), sql))
        before += max(numbers, default=0)
    *firsts, final = parts
    return f"WITH {', '.join(f'part_{n} AS ({sql})' for n, sql in enumerate(firsts))} {final}"


def _moved(by: int, match: re.Match[str]) -> str:
    return f"${int(match.group(1)) + by}"
