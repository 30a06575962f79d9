"""Flood control: never more than the limits, everybody served in order, and a 429 concerns whom it concerns."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botctl.bot.sending.flood import Blame, Flood, Place, Rates, Ticket
from botctl.bot.sending.flood_window import Window

RATES = Rates(bot_per_second=6, chat_per_second=1.0, chat_burst=2, group_per_minute=4)
"""Small ones, so that short histories meet them all."""


class History:
    """Plays what is asked for, as the one timer would, and notes what went out when."""

    def __init__(self, rates: Rates = RATES) -> None:
        self.flood = Flood(rates)
        self.now = 1000.0
        self.out: list[tuple[float, Ticket]] = []
        self.asked: list[Ticket] = []
        self.blocked: dict[Place, list[tuple[float, float]]] = defaultdict(list)

    def until(self, moment: float) -> None:
        while (wake := self.flood.wake_at()) is not None and wake <= moment:
            self.now = max(self.now, wake)
            granted = self.flood.grant(self.now)
            self.out += [(self.now, ticket) for ticket in granted]
            assert granted or (later := self.flood.wake_at()) is None or later > self.now, "woken for nothing, for ever"
        self.now = max(self.now, moment)

    def ask(self, place: Place, items: int = 1, *, bulk: bool = False) -> None:
        ticket = Ticket(place, items, bulk=bulk)
        self.asked.append(ticket)
        if self.flood.take(place, items, self.now, bulk=bulk):
            self.out.append((self.now, ticket))
        else:
            self.flood.ask(ticket, self.now)

    def refuse(self, place: Place, seconds: float) -> None:
        blame = self.flood.refused(place, seconds, self.now)
        self.blocked[None if blame is Blame.BOT else place].append((self.now, self.now + seconds))

    def drain(self) -> None:
        while (wake := self.flood.wake_at()) is not None:
            self.until(wake)

    def most(self, span: float, of: set[Place] | None = None) -> int:
        """The most items that went out within any window."""
        times = [(at, ticket.items) for at, ticket in self.out if of is None or ticket.place in of]
        return max((sum(n for at, n in times if begin <= at < begin + span) for begin, _ in times), default=0)


places = st.sampled_from([1, 2, 3, -10, -20, "@channel"])
asks = st.tuples(st.just("ask"), st.floats(0, 2), places, st.integers(1, 3), st.booleans())
refusals = st.tuples(st.just("refuse"), st.floats(0, 2), places, st.integers(1, 40), st.booleans())


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(asks, asks, asks, asks, refusals), max_size=60))
def test_in_no_window_more_than_the_limits_and_everybody_is_served_in_order(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    history = History()
    for kind, after, place, number, bulk in steps:
        history.until(history.now + after)
        if kind == "ask":
            history.ask(place, number, bulk=bulk)
        else:
            history.refuse(place, float(number))
    history.drain()
    assert len(history.out) == len(history.asked)
    assert history.most(1.0) <= RATES.bot_per_second
    for place in {ticket.place for ticket in history.asked}:
        for seconds in (1.0, 5.0, 20.0):
            # A call of three is more than the burst of two, and goes alone.
            assert history.most(seconds, {place}) <= RATES.chat_burst + 1 + seconds * RATES.chat_per_second
        if isinstance(place, str) or place < 0:
            assert history.most(60.0, {place}) <= RATES.group_per_minute
        for bulk in (False, True):
            line = [ticket for ticket in history.asked if ticket.place == place and ticket.bulk is bulk]
            assert [one for _, one in history.out if one.place == place and one.bulk is bulk] == line
    for at, ticket in history.out:
        for begin, end in (*history.blocked[None], *history.blocked[ticket.place]):
            assert not begin < at < end, "sent while Telegram had forbidden it"


def test_a_chat_with_a_thousand_waiting_starves_nobody() -> None:
    history = History(Rates(chat_per_second=0))
    for _ in range(1000):
        history.ask(1)
    for chat in range(2, 12):
        history.ask(chat)
    history.until(history.now + 2.0)
    assert {ticket.place for _, ticket in history.out} == set(range(1, 12))
    history.drain()
    assert len(history.out) == 1010
    assert history.now - 1000.0 == pytest.approx(1010 // 30, abs=1.01)


def test_answers_go_before_what_is_sent_in_bulk_but_not_for_ever() -> None:
    history = History(Rates(bot_per_second=10))
    for chat in range(100, 200):
        history.ask(chat, bulk=True)
    for chat in range(200, 290):
        history.ask(chat)
    history.drain()
    kinds = [ticket.bulk for _, ticket in history.out[10:110]]
    assert sum(not bulk for bulk in kinds) == 90
    assert [sum(kinds[begin : begin + 20]) for begin in range(0, 80, 20)] == [2] * 4


def test_nobody_waits_who_is_within_the_limits() -> None:
    flood = Flood()
    assert all(flood.take(chat, 1, 0.0) for chat in range(30))
    assert not flood.take(30, 1, 0.9)
    assert flood.take(30, 1, 1.0)
    flood = Flood()
    assert [flood.take(1, 1, 5.0) for _ in range(6)] == [True] * 5 + [False]
    assert flood.take(1, 1, 6.0)


def test_an_album_counts_each_item_and_a_call_beyond_every_limit_still_goes() -> None:
    flood = Flood()
    assert flood.take(-5, 10, 0.0)
    assert not flood.take(-5, 1, 9.9 - 5)
    ticket = Ticket(-6, 100)
    flood.ask(ticket, 0.0)
    assert flood.wake_at() == 1.0
    assert flood.grant(1.0) == [ticket]


def test_paid_messages_are_beyond_the_bots_own_limit() -> None:
    flood = Flood()
    assert all(flood.take(chat, 1, 0.0) for chat in range(30))
    assert flood.take(31, 1, 0.0, paid=True)


def test_no_limits_of_ours_still_obey_telegram() -> None:
    flood = Flood(Rates(0, 0, 0, 0))
    assert all(flood.take(-1, 1, 0.0) for _ in range(1000))
    flood.refused(-1, 3.0, 0.0)
    assert not flood.take(-1, 1, 2.9)
    assert flood.take(-1, 1, 3.0)


@pytest.mark.parametrize(
    ("sent", "place", "blame"),
    [
        ([1], 1, Blame.CHAT),
        ([1, 1], 1, Blame.CHAT),
        ([-1] * 20, -1, Blame.GROUP),
        (list(range(2, 30)), 1, Blame.BOT),
        ([1, 1, *range(2, 30)], 1, Blame.CHAT),
        ([], None, Blame.BOT),
    ],
    ids=["alone", "chat", "group", "bot", "chat before bot", "no chat"],
)
def test_whom_a_429_means_follows_from_what_was_sent(sent: list[int], place: Place, blame: Blame) -> None:
    flood = Flood(Rates(0, 0, 0, 0))
    for chat in sent:
        assert flood.take(chat, 1, 10.0)
    assert flood.refused(place, 5.0, 10.5) is blame
    assert flood.blocked(place, 10.5) == 5.0
    assert (flood.blocked(99, 10.5) > 0) is (blame is Blame.BOT)


def test_two_chats_refused_for_no_reason_of_ours_mean_the_bot() -> None:
    flood = Flood()
    assert flood.refused(1, 3.0, 10.0) is Blame.CHAT
    assert flood.blocked(2, 10.0) == 0
    assert flood.refused(2, 5.0, 11.0) is Blame.BOT
    assert flood.blocked(3, 11.0) == 5.0
    flood = Flood()
    flood.refused(1, 3.0, 10.0)
    assert flood.refused(2, 3.0, 14.0) is Blame.CHAT


def test_what_is_over_is_forgotten() -> None:
    flood = Flood(Rates(0, 0, 0, 0))
    for chat in range(5000):
        assert flood.take(chat, 1, chat * 1.0)
    assert len(flood) < 1200


def test_who_has_given_up_waiting_takes_no_slot() -> None:
    flood = Flood(Rates(chat_burst=1))
    assert flood.take(1, 1, 0.0)
    tickets = [Ticket(1), Ticket(1)]
    for ticket in tickets:
        flood.ask(ticket, 0.0)
    flood.withdraw(tickets[0])
    assert flood.grant(1.0) == [tickets[1]]
    assert flood.wake_at() is None


def test_a_window_is_never_exceeded() -> None:
    window = Window(3, 10.0)
    window.record(2, 0.0)
    assert window.ready_at(1) == 0.0
    assert window.ready_at(2) == 10.0
    assert window.ready_at(9) == 10.0
