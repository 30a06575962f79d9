"""Which events an entry of `subscribe:` means. Pure; the language is `fleet/subscriptions.py`'s."""

from __future__ import annotations

from botctl.fleet.subscriptions import Subscription, is_exact, is_pattern, matches, pattern_of, subscription

__all__ = ["Subscription", "concerns", "is_exact", "is_pattern", "matches", "pattern_of", "subscription"]


def concerns(entry: Subscription, event_type: str, *, own: bool) -> bool:
    """Whether an entry means events of this type, its conditions apart.

    Its own events a receiver gets only where a pattern names the type exactly: a bot that subscribes to `*` and
    publishes in reaction would otherwise feed itself for ever.
    """
    return entry.type == event_type if own else matches(entry.type, event_type)
