"""What the router makes of the entries of an out stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bus.backoff import Backoff
from botctl.bus.events import Event, decode_event, encode_event, event_id
from botctl.bus.reading.dead_letters import MAX_BODY
from botctl.bus.routing.batch import Batch
from botctl.bus.routing.batcher import Batcher
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.requests import Switchboard
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.seen import Seen
from botctl.bus.topology import Topology

TOPOLOGY = Topology("ns")


def batcher(subscribers: dict[int, tuple[str, ...]] | None = None, seen: Seen | None = None) -> Batcher:
    fanout = Fanout()
    fanout.update(Roster.of(subscribers or {}))
    return Batcher(TOPOLOGY, fanout, seen or Seen(), Switchboard(0.0), lambda: 1000.0)


def fields(event_id: str = "x", event_type: str = "custom.tick", source: str = "") -> list[bytes]:
    return [b"e", encode_event(Event(id=event_id, type=event_type, source=source, occurred_at=1))]


def test_an_event_goes_to_its_log_and_to_those_who_subscribe_and_is_acknowledged() -> None:
    batch, router = Batch(), batcher({1: ("*",), 2: ("custom.*",), 3: ("bot.*",)})
    router.add(batch, 1, b"5-0", fields())
    [commands] = router.seal(batch)
    assert [command[:2] for command in commands] == [
        ("XADD", "ns:events:bot"),
        ("XADD", "ns:bus:bot:2:in"),
        ("XACK", "ns:bus:bot:1:out"),
        ("XDEL", "ns:bus:bot:1:out"),
    ]
    assert commands[2][2:] == ("router", b"5-0")
    assert commands[3][2:] == (b"5-0",)


def test_the_source_is_the_stream_and_never_what_the_publisher_says() -> None:
    batch, router = Batch(), batcher()
    router.add(batch, 4, b"5-0", fields(source="fleet"))
    body = batch.commands[0][4]
    assert isinstance(body, bytes)
    assert decode_event(body).source == "bot:4"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ([b"e", b"nonsense"], "no event"),
        ([b"x", b"y"], "not one event"),
        ([b"e", b"{}", b"f", b"g"], "not one event"),
        (fields(event_id(10, "update:7", 0)), "another bot's"),
        (fields(event_type="bot.ready"), "may not publish"),
        (fields(event_type="bot.nonsense"), "not in the catalogue"),
        (fields(event_type="message.sent"), "not as in the catalogue"),
    ],
)
def test_what_is_refused_becomes_a_dead_letter_with_its_reason(entry: list[bytes], reason: str) -> None:
    batch, router = Batch(), batcher({2: ("*",)})
    router.add(batch, 1, b"5-0", entry)
    [rejected] = batch.rejected
    assert reason in rejected.reason
    [commands] = router.seal(batch)
    assert [command[:2] for command in commands] == [
        ("XADD", "ns:bus:dead"), ("XACK", "ns:bus:bot:1:out"), ("XDEL", "ns:bus:bot:1:out"),
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_whatever_a_bot_writes_is_finished_and_never_raises(entry: list[bytes]) -> None:
    batch, router = Batch(), batcher()
    router.add(batch, 1, b"5-0", entry)
    assert batch.entries == 1


def test_a_huge_dead_letter_is_cut() -> None:
    batch, router = Batch(), batcher()
    router.add(batch, 1, b"5-0", [b"e", b"x" * 1_000_000])
    assert sum(len(part) for part in batch.commands[0] if isinstance(part, bytes)) <= MAX_BODY


def test_an_event_relayed_twice_is_routed_once() -> None:
    seen = Seen()
    batch, router = Batch(), batcher(seen=seen)
    router.add(batch, 1, b"5-0", fields("a"))
    router.add(batch, 1, b"6-0", fields("a"))
    seen.add(batch.routed)
    router.add(batch, 1, b"7-0", fields("a"))
    assert (len(batch.commands), batch.duplicates, batch.entries) == (1, 2, 3)


def test_the_same_id_from_another_bot_is_another_event() -> None:
    batch, router = Batch(), batcher()
    router.add(batch, 1, b"5-0", fields("a"))
    router.add(batch, 2, b"5-0", fields("a"))
    assert batch.duplicates == 0


def test_what_was_not_committed_is_not_remembered_as_routed() -> None:
    seen = Seen()
    router = batcher(seen=seen)
    router.add(Batch(), 1, b"5-0", fields("a"))
    batch = Batch()
    router.add(batch, 1, b"5-0", fields("a"))
    assert (batch.duplicates, len(batch.routed)) == (0, 1)


def test_an_entry_that_is_gone_already_is_only_acknowledged() -> None:
    batch, router = Batch(), batcher()
    router.add(batch, 1, b"5-0", None)
    [commands] = router.seal(batch)
    assert [command[0] for command in commands] == ["XACK", "XDEL"]


def test_a_large_event_for_many_is_written_in_parts_and_acknowledged_with_the_last() -> None:
    batch, router = Batch(), batcher(dict.fromkeys(range(2, 202), ("*",)))
    large = Event(id="x", type="custom.tick", occurred_at=1, data={"text": "x" * 60_000})
    router.add(batch, 1, b"5-0", [b"e", encode_event(large)])
    assert batch.full
    parts = router.seal(batch)
    assert len(parts) > 1
    assert all(sum(len(command[4]) for command in part if command[0] == "XADD") < 3_000_000 for part in parts)  # type: ignore[arg-type]
    assert [command[0] for part in parts for command in part][-3:] == ["XADD", "XACK", "XDEL"]
    assert sum(map(len, parts)) == 201 + 2


def test_a_bot_pushes_out_its_own_memories_only() -> None:
    seen = Seen(limit=10)
    seen.add([(1, "mine")])
    seen.add((2, str(n)) for n in range(1000))
    assert (1, "mine") in seen
    assert (2, "989") not in seen
    assert (2, "990") in seen


def test_the_backoff_grows_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(0.1, 5.0)
    delays: list[Any] = [backoff.next() for _ in range(2000)]
    assert 0.05 <= delays[0] <= 0.1
    assert all(2.5 <= delay <= 5.0 for delay in delays[10:])
    backoff.reset()
    assert backoff.next() <= 0.1
