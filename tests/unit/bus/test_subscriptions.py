"""Patterns of `subscribe:` and who gets what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bus.event_types.subscriptions import Subscription, concerns, is_pattern, matches
from botctl.bus.events import Event
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.pattern_index import PatternIndex
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.topology import Receiver


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


def receivers(fanout: Fanout, event_type: str, publisher: int, **data: Any) -> set[Receiver]:
    return set(fanout.receivers(Event(id="x", type=event_type, occurred_at=1, data=data), publisher))


def test_its_own_events_a_bot_gets_only_by_their_exact_name() -> None:
    entries = [Subscription(type="*"), Subscription(type="custom.*"), Subscription(type="custom.tick")]
    assert [concerns(entry, "custom.tick", own=True) for entry in entries] == [False, False, True]


def test_the_fanout_follows_changed_subscriptions() -> None:
    fanout = Fanout()
    fanout.update(Roster.of({1: ("custom.*",), 2: ("*",), 3: ()}))
    assert receivers(fanout, "custom.tick", publisher=3) == {1, 2}
    assert receivers(fanout, "custom.tick", publisher=1) == {2}
    assert receivers(fanout, "bot.ready", publisher=0) == {2}
    fanout.update(Roster.of({1: ("custom.tick",), 3: ("bot.ready",)}))
    assert receivers(fanout, "custom.tick", publisher=1) == {1}
    assert receivers(fanout, "bot.ready", publisher=0) == {3}


def test_made_up_types_do_not_fill_the_memory() -> None:
    fanout = Fanout()
    fanout.update(Roster.of({1: ("*",)}))
    for n in range(10_000):
        receivers(fanout, f"custom.t{n}", publisher=1)
    assert len(fanout._routes) <= 4096


def test_a_group_gets_an_event_once_and_its_members_own_ones_by_their_exact_name_only() -> None:
    fanout = Fanout()
    roster = Roster(
        {1: Member(name="one", groups=("desk",)), 2: Member(name="two", groups=("desk",)), 3: Member(name="three")},
        {"desk": (Subscription(type="order.*"), Subscription(type="order.moved"))},
    )
    fanout.update(roster)
    assert receivers(fanout, "order.placed", publisher=3) == {"desk"}
    assert receivers(fanout, "order.placed", publisher=1) == set()
    assert receivers(fanout, "order.moved", publisher=2) == {"desk"}


def test_one_entry_that_lets_an_event_in_is_enough() -> None:
    some = Subscription(type="order.*", where={"total": {"gte": 100}})
    other = Subscription(type="order.placed", where={"vip": True})
    fanout = Fanout()
    fanout.update(Roster({1: Member(subscribe=(some, other)), 2: Member(subscribe=(some, Subscription(type="*")))}))
    assert receivers(fanout, "order.placed", 9, total=100) == {1, 2}
    assert receivers(fanout, "order.placed", 9, total=99) == {2}
    assert receivers(fanout, "order.placed", 9, total=1, vip=True) == {1, 2}
    assert receivers(fanout, "order.sent", 9, vip=True) == {2}


def test_a_source_is_known_by_name_by_id_and_as_the_fleet() -> None:
    fanout = Fanout()

    def where(source: Any) -> Member:
        return Member(subscribe=(Subscription(type="*", where={"source": source}),))

    fanout.update(
        Roster({
            1: where("shop"), 2: where([7, "fleet"]), 3: where({"not": "shop"}), 4: where("stranger"),
            7: Member(name="shop"),
        })
    )  # fmt: skip
    assert receivers(fanout, "order.placed", 7) == {1, 2}
    assert receivers(fanout, "order.placed", 8) == {3}
    assert receivers(fanout, "bot.ready", 0) == {2, 3}


_NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=4).map(".".join)
_PATTERNS = st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=4).map(".".join).filter(is_pattern)


@given(st.lists(_PATTERNS, max_size=12), _NAMES)
def test_no_pattern_that_means_a_type_is_overlooked(patterns: list[str], event_type: str) -> None:
    found = list(PatternIndex((pattern, pattern) for pattern in patterns).candidates(event_type))
    assert sorted(filter(lambda one: matches(one, event_type), found)) == sorted(
        filter(lambda one: matches(one, event_type), patterns)
    )


def test_a_type_that_nobody_wants_costs_little_in_a_large_fleet() -> None:
    fanout = Fanout()
    patterns = ("order.placed", "order.*", "shop.*.paid", "*.failed", "stock.*", "visit.*", "bill.sent", "user.*")
    fanout.update(Roster.of(dict.fromkeys(range(1, 501), patterns)))
    for n in range(100):
        assert receivers(fanout, f"made.up{n}", 1) == set()
    assert fanout.looked_at == 0
    assert len(receivers(fanout, "order.placed", 501)) == 500
    assert fanout.looked_at == 1000
    assert len(receivers(fanout, "order.placed", 501)) == 500
    assert fanout.looked_at == 1000, "remembered"
