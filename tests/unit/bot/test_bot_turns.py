"""Whose turn it is: everybody in a round, and a party no oftener than a chat."""

from __future__ import annotations

from botctl.bot.exchange.reactions import row_of
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.receiving.turns import Turns
from botctl.bus.events import Event
from botctl.storage.inbox import InboxRow


def order(turns: Turns) -> list[str]:
    found: list[str] = []
    while (name := turns.next()) is not None:
        found.append(name)
    return found


def test_who_had_nothing_waiting_takes_every_other_turn() -> None:
    turns = Turns()
    for name in ("a", "b", "c"):
        turns.add(name, prompt=False)
    for name in ("x", "y"):
        turns.add(name, prompt=True)
    assert order(turns) == ["x", "a", "y", "b", "c"]


def test_the_lanes_of_a_party_share_the_turns_of_one() -> None:
    turns = Turns()
    for name in ("request:bot:7|1", "request:bot:7|2", "request:bot:7|3", "chat:1", "request:bot:8|1", "chat:2"):
        turns.add(name, prompt=True)
    assert order(turns) == [
        "request:bot:7|1", "chat:1", "request:bot:8|1", "chat:2", "request:bot:7|2", "request:bot:7|3",
    ]  # fmt: skip


def row(number: int, event: Event) -> InboxRow:
    made = row_of(event)
    return InboxRow(number, made.cause, made.kind, made.lane, made.payload, made.trace_id)


def test_a_bot_that_asks_much_keeps_no_chat_waiting() -> None:
    lanes = Lanes()
    for number in range(1, 101):
        asked = Event(id=f"r{number}", type="price.quote", source="bot:7", occurred_at=1, to="bot:8", deadline=9)
        lanes.arrive(row(number, asked), 0.0, previous=None)
    lanes.arrive(InboxRow(101, "update:1", "message", "chat:1", "{}", "t"), 0.0, previous=None)
    taken = [one.lane for _ in range(3) if (one := lanes.take(0.0)) is not None]
    assert taken == ["request:bot:7|r1", "chat:1", "request:bot:7|r2"], "and each request a lane of its own"


def test_events_of_one_publisher_are_in_one_lane_whatever_their_types() -> None:
    sources = {
        (source, row_of(Event(id="x", type=type_, source=source, occurred_at=1)).lane)
        for source in ("bot:7", "bot:8", "fleet")
        for type_ in ("order.placed", "order.paid")
    }
    assert sources == {("bot:7", "event:bot:7"), ("bot:8", "event:bot:8"), ("fleet", "event:fleet")}
