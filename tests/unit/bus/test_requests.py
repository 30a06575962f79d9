"""Requests and replies as the router sees them: who may ask whom, and what becomes of each."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.bus.event_types.subscriptions import Subscription
from botctl.bus.events import Event, decode_event, encode_event
from botctl.bus.routing.batch import Batch
from botctl.bus.routing.batcher import Batcher
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.requests import LONGEST_TIMEOUT, MOST_OPEN, Refusal, Refused, Switchboard
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.routing.seen import Seen
from botctl.bus.topology import Topology
from botctl.errors import ProtocolError

NOW = 10_000.0
PRICE = Subscription(type="price.*")
CHEAP = Subscription(type="stock.*", where={"source": "ada", "n": {"lt": 10}})
ROSTER = Roster(
    {1: Member(name="ada"), 2: Member(name="shop", answers=(PRICE, CHEAP)), 3: Member(name="eve"), 4: Member()}
)


def switchboard(began: float = 0.0) -> Switchboard:
    made = Switchboard(began)
    made.update(ROSTER)
    return made


def ask(to: str = "shop", event_type: str = "price.quote", request_id: str = "r", **more: Any) -> Event:
    return Event(**{"id": request_id, "type": event_type, "occurred_at": NOW, "to": to, "deadline": NOW + 5} | more)


def answer(to: str = "bot:1", reply_to: str = "r", **more: Any) -> Event:
    return Event(**{"id": "a", "type": "price.quote", "occurred_at": NOW, "to": to, "reply_to": reply_to} | more)


@pytest.mark.parametrize("to", ["shop", "2", "bot:2"])
def test_a_request_goes_to_the_bot_it_names(to: str) -> None:
    assert switchboard().admit(ask(to), 1, NOW) == 2


@pytest.mark.parametrize(
    ("request_", "asker", "why"),
    [
        (ask("nobody"), 1, Refusal.NO_SUCH_BOT),
        (ask("bot:99"), 1, Refusal.NO_SUCH_BOT),
        (ask("bot:4"), 1, Refusal.NO_SUCH_BOT),
        (ask("bot:\u0662"), 1, Refusal.NO_SUCH_BOT),
        (ask("eve"), 1, Refusal.UNWILLING),
        (ask(event_type="order.place"), 1, Refusal.UNWILLING),
        (ask(event_type="stock.level", data={"n": 5}), 3, Refusal.UNWILLING),
        (ask(event_type="stock.level", data={"n": 50}), 1, Refusal.UNWILLING),
        (ask(deadline=NOW), 1, Refusal.EXPIRED),
        (ask(deadline=NOW + LONGEST_TIMEOUT + 60), 1, Refusal.INVALID),
        (ask(event_type="message.sent"), 1, Refusal.INVALID),
        (Event(id="r", type="price.quote", occurred_at=NOW, to="shop"), 1, Refusal.INVALID),
    ],
)
def test_what_is_not_delivered_says_why(request_: Event, asker: int, why: Refusal) -> None:
    refused = switchboard().admit(request_, asker, NOW)
    assert isinstance(refused, Refused)
    assert refused.why is why


def test_conditions_of_answers_let_in_what_they_mean() -> None:
    assert switchboard().admit(ask(event_type="stock.level", data={"n": 5}), 1, NOW) == 2


def test_a_reply_comes_from_who_was_asked_once_and_in_time() -> None:
    board = switchboard()
    board.delivered(1, "r", 2, NOW + 5)
    assert board.expects(answer(), 3, NOW) is None, "somebody else's"
    assert board.expects(answer(reply_to="other"), 2, NOW) is None
    assert board.expects(answer(), 2, NOW + 6) is None, "late"
    assert board.expects(answer(), 2, NOW) == 1
    board.replied(1, "r")
    assert board.expects(answer(), 2, NOW) is None


def test_a_new_router_lets_replies_through_that_its_predecessor_may_have_announced() -> None:
    assert switchboard(began=NOW - 1).expects(answer(), 2, NOW) == 1
    assert switchboard(began=NOW - 1).expects(answer(), 3, NOW) is None, "it answers nobody"
    assert switchboard(began=NOW - 1).expects(answer(type="order.place"), 2, NOW) is None, "nor such requests"
    assert switchboard(began=NOW - LONGEST_TIMEOUT - 61).expects(answer(), 2, NOW) is None
    assert switchboard(began=NOW).expects(answer(to="bot:77"), 2, NOW) is None


def test_a_bot_with_too_many_open_requests_is_refused_until_some_are_over() -> None:
    board = switchboard()
    for number in range(MOST_OPEN):
        board.delivered(1, f"r{number}", 2, NOW + 5)
    refused = board.admit(ask(), 1, NOW)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.BUSY
    assert board.admit(ask(), 3, NOW) == 2
    later = NOW + 100
    assert board.admit(ask(deadline=later + 5), 1, later) == 2


def test_a_reply_must_be_one() -> None:
    with pytest.raises(ProtocolError, match="a reply has"):
        switchboard().expects(answer(deadline=NOW + 1), 2, NOW)


def routed(event: Event, bot: int, board: Switchboard | None = None) -> tuple[Batch, list[tuple[str, Event]]]:
    fanout = Fanout()
    everything = {9: Member(name="nosy", subscribe=(Subscription(type="*"),))}
    fanout.update(Roster({**ROSTER.bots, **everything}))
    batch = Batch()
    batcher = Batcher(Topology("ns"), fanout, Seen(), board or switchboard(), lambda: NOW)
    batcher.add(batch, bot, b"5-0", [b"e", encode_event(event)])
    writes = [(str(one[1]), one) for one in batch.commands]
    return batch, [(key, decode_event(one[4])) for key, one in writes if key != "ns:bus:dead"]  # type: ignore[arg-type]


def test_only_the_addressed_bot_gets_a_request_and_the_log_no_data() -> None:
    batch, writes = routed(ask(data={"secret": 1}, source="fleet", source_name="boss", replay="x"), 1)
    assert [key for key, _ in writes] == ["ns:events:bot", "ns:bus:bot:2:in"]
    log, delivered = writes[0][1], writes[1][1]
    assert (log.data, log.id) == ({}, "r")
    assert (delivered.data, delivered.source, delivered.source_name) == ({"secret": 1}, "bot:1", "ada")
    assert (delivered.to, bool(delivered.replay)) == ("bot:2", False)
    assert batch.asked == [(1, "r", 2, NOW + 5)]


def test_a_refused_request_is_answered_at_once_in_the_fleets_name() -> None:
    batch, writes = routed(ask("eve"), 1)
    [(key, reply)] = writes
    assert (key, reply.source, reply.reply_to, reply.to) == ("ns:bus:bot:1:in", "fleet", "r", "bot:1")
    assert reply.error == "unwilling"
    assert (batch.refused, batch.asked, batch.rejected) == (1, [], [])


def test_a_request_too_large_to_be_stamped_is_refused_and_not_lost_without_a_word() -> None:
    large = ask(data={"text": ""})
    large = ask(data={"text": "x" * (64 * 1024 - len(encode_event(large)))})
    batch, [(_, reply)] = routed(large, 1)
    assert (reply.error, batch.rejected) == ("too large", [])


def test_a_late_reply_is_dropped_and_counted() -> None:
    board = switchboard()
    board.delivered(1, "r", 2, NOW - 1)
    batch, writes = routed(answer(), 2, board)
    assert (writes, batch.expired, batch.entries) == ([], 1, 1)


def test_a_reply_that_was_not_written_is_still_expected() -> None:
    board = switchboard()
    board.delivered(1, "r", 2, NOW + 1)
    for _ in range(2):
        batch, writes = routed(answer(data={"p": 1}), 2, board)
        assert [key for key, _ in writes] == ["ns:events:bot", "ns:bus:bot:1:in"]
        assert batch.answered == [(1, "r")]


def test_nobody_asks_in_the_fleets_name() -> None:
    batch, _ = routed(ask(), 0)
    assert "no mailbox" in batch.rejected[0].reason


def test_an_ordinary_event_carries_nothing_of_a_request_past_the_router() -> None:
    event = Event(id="x", type="order.placed", occurred_at=1, deadline=5.0, error="x", source_name="boss", replay="y")
    _, writes = routed(event, 1)
    for _, delivered in writes:
        assert not any((delivered.deadline, delivered.error, delivered.source_name, delivered.replay))
