"""Which events an entry of `subscribe:` means. Pure; the language is `fleet/subscriptions.py`'s."""

from __future__ import annotations

from collections.abc import Iterable

from botctl.fleet.subscriptions import Subscription, is_exact, is_pattern, matches, pattern_of, subscription

__all__ = ["Subscription", "concerning", "is_exact", "is_pattern", "matches", "pattern_of", "subscription"]


def concerning(entries: Iterable[Subscription], event_type: str, *, own: bool) -> list[Subscription]:
    """Those of a receiver's entries that mean events of this type, their conditions apart.

    Its own events a receiver gets only where a pattern names the type exactly: a bot that subscribes to `*` and
    publishes in reaction would otherwise feed itself for ever.
    """
    if own:
        return [entry for entry in entries if entry.type == event_type]
    return [entry for entry in entries if matches(entry.type, event_type)]
