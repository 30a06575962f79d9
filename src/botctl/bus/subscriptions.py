"""Which events a pattern of `subscribe:` means.

Pure. A pattern is a type, `*` for every type, or a type with `*` for one or more whole names: `bot.*`, `*.failed`,
`shop.*.paid`. A trailing `*` stands for one name or more, any other for exactly one.
"""

from __future__ import annotations

import re

_PATTERN = re.compile(r"(\*|[a-z][a-z0-9_]*)(\.(\*|[a-z0-9_]+))*")


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


def wants(patterns: tuple[str, ...], event_type: str, *, own: bool) -> bool:
    """Whether a bot with these patterns gets an event of this type.

    Its own events a bot gets only when a pattern names the type exactly: a bot that subscribes to `*` and publishes in
    reaction would otherwise feed itself for ever.
    """
    if own:
        return event_type in patterns
    return any(matches(pattern, event_type) for pattern in patterns)
