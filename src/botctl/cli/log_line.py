"""A line of a log as a person reads it: structured ones without braces, tracebacks line by line. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

_LEFT_OUT = frozenset({"timestamp", "level", "logger", "process", "bot", "trace_id", "event", "exception"})


def readable(line: str) -> list[str]:
    """`14:02:33 warning: updates were interrupted failure=hang`, then what it carries of a traceback; else as it is."""
    if not line.startswith("{"):
        return [line]
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return [line]
    rest = " ".join(f"{key}={_value(value)}" for key, value in fields.items() if key not in _LEFT_OUT)
    head = f"{_clock(fields.get('timestamp'))}{fields.get('level', 'info')}: {fields['event']} {rest}".rstrip()
    exception = fields.get("exception")
    return [head, *(exception.splitlines() if isinstance(exception, str) else [])]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _clock(timestamp: Any) -> str:
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S ")
    except (TypeError, ValueError, OverflowError):
        return ""
