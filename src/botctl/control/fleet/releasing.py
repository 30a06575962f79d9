"""Releasing a whole fleet: whom it is meant for, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from botctl.control.ports import BotSight, FleetSight


def releasable(sight: FleetSight) -> list[BotSight]:
    """Those whose failures put them into quarantine; who was shut away on purpose is released by name only."""
    return [bot for bot in sight.bots if bot.state == "quarantined" and not bot.shut_away]


def released_words(released: Sequence[str], sight: FleetSight) -> str:
    """What was done, and who was left."""
    said = f"released: {', '.join(released)}" if released else "no bot is quarantined for its failures"
    left = [bot.name for bot in sight.bots if bot.state == "quarantined" and bot.shut_away]
    return f"{said}; shut away on purpose, so to be released by name: {', '.join(left)}" if left else said
