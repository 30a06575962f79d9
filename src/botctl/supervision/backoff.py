"""Delays before restarts, and the window that counts failures. Pure arithmetic."""

from __future__ import annotations

import hashlib


def jitter(key: int, turn: int) -> float:
    """A number in [0.5, 1.0) that is the same for the same child and turn, so that a history can be replayed."""
    digest = hashlib.blake2b(f"{key}/{turn}".encode(), digest_size=8).digest()
    return 0.5 + int.from_bytes(digest, "big") / 2**65


def about(key: int, turn: int) -> float:
    """A factor in [0.9, 1.1): spreads what would otherwise happen to every child at once."""
    return 0.7 + 0.4 * jitter(key, turn)


def delay(first: float, maximum: float, consecutive: int, *, key: int, turn: int) -> float:
    """Seconds to wait after the `consecutive`-th failure in a row (from 1): doubling, capped, spread by jitter."""
    doublings = min(max(consecutive, 1) - 1, 32)
    return min(maximum, first * 2.0**doublings) * jitter(key, turn)


def within(failures: tuple[float, ...], now: float, period: float) -> tuple[float, ...]:
    """The failures that still count."""
    return tuple(at for at in failures if now - at < period)
