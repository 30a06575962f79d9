"""Patterns of `subscribe:` and who gets what."""

from __future__ import annotations

import pytest

from botctl.bus.fanout import Fanout
from botctl.bus.subscriptions import is_pattern, matches, wants


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("*", "bot.started", True),
        ("*", "a.b.c.d", True),
        ("bot.started", "bot.started", True),
        ("bot.started", "bot.started.twice", False),
        ("bot.*", "bot.started", True),
        ("bot.*", "bot.a.b", True),
        ("bot.*", "bots.started", False),
        ("bot.*", "bot", False),
        ("*.failed", "bot.failed", True),
        ("*.failed", "shop.order.failed", False),
        ("shop.*.paid", "shop.order.paid", True),
        ("shop.*.paid", "shop.paid", False),
        ("shop.*.paid", "shop.a.b.paid", False),
        ("*.*", "a.b", True),
        ("*.*", "a.b.c", True),
    ],
)
def test_a_pattern_means_these_types(pattern: str, event_type: str, expected: bool) -> None:
    assert matches(pattern, event_type) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("*", True), ("bot.*", True), ("*.failed", True), ("a.b", True), ("bot", False), ("", False), ("bot.", False),
     ("Bot.x", False), ("bot.st*", False), ("a b.c", False), ("a." * 60 + "b", False)],
)  # fmt: skip
def test_what_could_never_match_is_no_pattern(text: str, expected: bool) -> None:
    assert is_pattern(text) is expected


def test_its_own_events_a_bot_gets_only_by_their_exact_name() -> None:
    assert not wants(("*", "custom.*"), "custom.tick", own=True)
    assert wants(("*", "custom.tick"), "custom.tick", own=True)


def test_the_fanout_follows_changed_subscriptions() -> None:
    fanout = Fanout()
    fanout.update({1: ("custom.*",), 2: ("*",), 3: ()})
    assert fanout.receivers("custom.tick", publisher=3) == (1, 2)
    assert fanout.receivers("custom.tick", publisher=1) == (2,)
    assert fanout.receivers("bot.ready", publisher=0) == (2,)
    fanout.update({1: ("custom.tick",), 3: ("bot.ready",)})
    assert fanout.receivers("custom.tick", publisher=1) == (1,)
    assert fanout.receivers("bot.ready", publisher=0) == (3,)


def test_made_up_types_do_not_fill_the_memory() -> None:
    fanout = Fanout()
    for n in range(10_000):
        fanout.receivers(f"custom.t{n}", publisher=1)
    assert len(fanout._receivers) <= 4096
