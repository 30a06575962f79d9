"""Reading what the operator sends, and telling what was wrong with it."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web


class OperatorError(Exception):
    """A wrong request of the operator: becomes `{"error": …}` with that status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


async def read_json(request: web.Request) -> Any:
    """The JSON body; an empty one counts as `{}`. Raises OperatorError."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError as error:
        raise OperatorError(f"the body is no JSON: {error}") from error


def query_number(request: web.Request, name: str, default: float) -> float:
    """A number of the query string. Raises OperatorError."""
    value = request.query.get(name)
    if value is None:
        return default
    try:
        return float(value)
    except ValueError as error:
        raise OperatorError(f"{name} is a number, not {value!r}") from error
