"""The relay's order of things, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.exceptions import ConnectionError, OutOfMemoryError, ResponseError

from botctl.bus import relay as relay_module
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.events import Event, decode_event
from botctl.bus.relay import Relay
from botctl.bus.topology import Topology
from botctl.errors import ServerUnsupportedError


@dataclass(frozen=True)
class Row:
    seq: int
    event: Event


class Outbox:
    def __init__(self, count: int, size: int = 1) -> None:
        self.rows = [
            Row(n, Event(id=str(n), type="custom.tick", occurred_at=1, data={"text": "x" * size})) for n in range(count)
        ]
        self.marked: list[int] = []

    async def pending(self, limit: int) -> list[Row]:
        return [row for row in self.rows if row.seq not in self.marked][:limit]

    async def mark_relayed(self, seqs: Any) -> None:
        self.marked.extend(seqs)


class Server:
    """Takes what is sent, and gives these replies first, one list a call."""

    def __init__(self, *replies: list[Any] | Exception) -> None:
        self.replies = list(replies)
        self.lengths: list[Any] = []
        """Answers to XLEN, the first ones; 0 afterwards."""
        self.sent: list[list[str]] = []

    since = 0.0
    """When each line was connected."""

    @asynccontextmanager
    async def line(self, redis: Any) -> AsyncIterator[Server]:
        yield self

    async def execute(self, redis: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            return [self.lengths.pop(0)]
        *appended, asked = commands
        assert asked == ("XLEN", "ns:bus:bot:1:out")
        assert all(command[2] == "NOMKSTREAM" for command in appended)
        self.sent.append([decode_event(command[5]).id for command in appended])
        reply = self.replies.pop(0) if self.replies else [b"1-1"] * len(appended)
        if isinstance(reply, Exception):
            raise reply
        return [*reply, self.lengths.pop(0) if self.lengths else 0]


@pytest.fixture
def relay_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def run(server: Server, outbox: Outbox) -> Relay:
        monkeypatch.setattr(relay_module, "execute", server.execute)
        monkeypatch.setattr(relay_module, "line", server.line)
        relay = Relay(None, Topology("ns"), 1, outbox)  # type: ignore[arg-type]
        running = asyncio.create_task(relay.run())
        async with asyncio.timeout(5):
            while len(outbox.marked) < len(outbox.rows):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return relay

    return run


async def test_after_a_failure_in_the_middle_it_goes_on_there_alone_so_that_order_is_kept(relay_to: Any) -> None:
    """With more than one row the next refusal could end in the midst of them."""
    server = Server([b"1-1"], [OutOfMemoryError("OOM"), b"1-2"])
    outbox = Outbox(4)
    relay = await relay_to(server, outbox)
    assert server.sent == [["0"], ["1", "2"], ["1"], ["2", "3"]]
    assert outbox.marked == [0, 1, 2, 3]
    assert relay.healthy


async def test_it_waits_for_a_stream_that_is_not_made_yet(relay_to: Any) -> None:
    server = Server([None], [None])
    await relay_to(server, Outbox(2))
    assert server.sent == [["0"], ["0"], ["0"], ["1"]]


async def test_rows_that_were_read_before_it_connected_are_read_again(relay_to: Any) -> None:
    """Another server may be at the other end, on which other rows are due."""
    server, outbox = Server(), Outbox(2)
    server.since = float("inf")
    read = outbox.pending
    new = [Row(2, outbox.rows[1].event)]

    async def pending(limit: int) -> list[Row]:
        rows = await read(limit)
        outbox.rows[0:0], new[:] = new, []
        return rows

    outbox.pending = pending  # type: ignore[method-assign]
    await relay_to(server, outbox)
    assert server.sent == [["1"], ["0", "1"]]


async def test_rows_whose_reply_was_lost_go_again(relay_to: Any) -> None:
    server = Server(ConnectionError("lost"), ConnectionError("lost"))
    await relay_to(server, Outbox(2))
    assert server.sent == [["0"], ["0"], ["0"], ["1"]]


async def test_large_rows_go_in_smaller_batches(relay_to: Any) -> None:
    server = Server()
    await relay_to(server, Outbox(100, size=60_000))
    assert max(map(len, server.sent)) < 20
    assert [one for batch in server.sent for one in batch] == [str(n) for n in range(100)]


class Answers:
    """A client that knows INFO only."""

    def __init__(self, **info: Any) -> None:
        self._info = info

    async def info(self, section: str) -> dict[str, Any]:
        return self._info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14 is not supported"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.8"}, "Valkey 7.2.8 is not supported"),
        ({"redis_version": "8.0.0", "redis_mode": "cluster"}, "cluster"),
    ],
)
async def test_a_server_that_is_unfit_is_refused_with_the_next_step(info: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerUnsupportedError, match=message) as caught:
        await BusAdmin(Answers(**info), Topology("ns")).check_version()  # type: ignore[arg-type]
    assert caught.value.hint is not None
    assert "BOTCTL_REDIS_URL" in caught.value.hint


async def test_it_waits_with_the_next_batch_until_the_router_has_taken_the_last_one(relay_to: Any) -> None:
    server = Server()
    server.lengths = [0, 0, 0, 0, 0, 50, 50, 50, 3]
    outbox = Outbox(80, size=1000)
    relay = await relay_to(server, outbox)
    assert [len(sent) for sent in server.sent] == [
        1,
        2,
        4,
        8,
        16,
        30,
        19,
    ]  # 32 kB at most
    assert server.lengths == []
    assert relay.relayed == 80


async def test_a_server_that_tells_no_lengths_is_not_waited_for(relay_to: Any) -> None:
    server = Server()
    server.lengths = [ResponseError("NOPERM")] * 5
    outbox = Outbox(60)
    relay = await relay_to(server, outbox)
    assert relay.healthy
    assert outbox.marked == list(range(60))
