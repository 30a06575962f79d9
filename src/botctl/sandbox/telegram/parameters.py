"""A call's parameters: from the query string, JSON, urlencoded or multipart bodies, read as leniently as Telegram does.

Telegram treats every value as a string that may hold JSON; so a number may come as `5` or `"5"`, an object as itself
or as its JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from botctl.sandbox.telegram.errors import bad_request

_INTEGER = re.compile(r"\s*([+-]?\d+)")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a multipart body."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Parameters:
    """The values of one call by name, and its uploads."""

    values: Mapping[str, Any]
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A string; other JSON values become their JSON text."""
        value = self.values.get(name)
        if value is None:
            return default
        return value if isinstance(value, str) else json.dumps(value)

    def integer(self, name: str, default: int = 0, *, least: int = -(2**31), most: int = 2**31 - 1) -> int:
        """An integer within bounds; nonsense counts as 0, as on the real server."""
        value = self.values.get(name)
        if value is None or value == "":
            return default
        return max(least, min(most, to_integer(value)))

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean: true, yes and 1 are true."""
        value = self.values.get(name)
        if value is None:
            return default
        return str(value).strip().lower() in ("true", "yes", "1")

    def structure(self, name: str, what: str) -> Any:
        """A JSON value, or None when absent; raises 400 "can't parse WHAT" when it is no JSON."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise bad_request(f"can't parse {what} JSON object") from None

    def words(self, name: str) -> list[str] | None:
        """A list of strings, None when absent or no list; raises 400 when it is no JSON."""
        if name not in self.values:
            return None
        raw = self.structure(name, name)
        return [str(word) for word in raw] if isinstance(raw, list) else None


def to_integer(value: object) -> int:
    """The number at the start of a value, 0 when there is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    found = _INTEGER.match(str(value))
    return int(found.group(1)) if found else 0


async def read_parameters(request: web.Request) -> Parameters:
    """All parameters of a request; the body wins over the query string. Raises 400 on an unreadable body."""
    values: dict[str, Any] = dict(request.query) if request.query_string else {}
    if not request.body_exists:
        return Parameters(values)
    kind = request.content_type
    if kind == "application/json":
        raw = await request.read()
        if not raw:
            return Parameters(values)
        try:
            body = json.loads(raw)
        except ValueError:
            raise bad_request("can't parse JSON object") from None
        if not isinstance(body, dict):
            raise bad_request("expected JSON object")
        values.update((key, value) for key, value in body.items() if value is not None)
        return Parameters(values)
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        uploads: dict[str, Upload] = {}
        try:
            form = await request.post()
        except ValueError:
            raise bad_request("can't parse the request body") from None
        for key, value in form.items():
            if isinstance(value, web.FileField):
                uploads[key] = Upload(value.filename, value.content_type, value.file.read())
            elif isinstance(value, str):
                values[key] = value
            else:
                values[key] = bytes(value).decode("utf-8", "replace")
        return Parameters(values, uploads)
    await request.read()  # other kinds of body are ignored, as Telegram does
    return Parameters(values)
