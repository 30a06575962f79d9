"""Events of the outbox that can't be opened are told and stay; the others go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from botctl.bot.exchange import waiting_events
from botctl.bot.exchange.waiting_events import WaitingEvents
from botctl.errors import VaultError
from botctl.storage.outbox import StoredEvent


class Database:
    async def statement(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(None)


class Outbox:
    def __init__(self, *faults: str) -> None:
        self.rows = [
            StoredEvent(f"e{seq}", "shop.paid", 1, 1.0, "", "", {}, seq=seq, fault=fault)
            for seq, fault in enumerate(faults)
        ]
        self.marked: list[int] = []

    async def pending(self, connection: Any, limit: int, without: Sequence[int]) -> list[StoredEvent]:
        return [row for row in self.rows if row.seq not in {*self.marked, *without}][:limit]

    async def mark_relayed(self, connection: Any, seqs: Sequence[int]) -> None:
        self.marked += seqs


def port_over(outbox: Outbox) -> WaitingEvents:
    return WaitingEvents(Database(), outbox)  # type: ignore[arg-type]


async def test_what_cannot_be_opened_stays_and_holds_up_nothing() -> None:
    outbox = Outbox("no key", "no key", "", "no key", "")
    port = port_over(outbox)
    sent = []
    while rows := await port.pending(2):
        sent += [row.seq for row in rows]
        await port.mark_relayed([row.seq for row in rows])
    assert sent == [2, 4]
    assert outbox.marked == [2, 4]
    assert [row.seq for row in await port_over(Outbox("", "")).pending(5)] == [0, 1], "with the key back"


async def test_with_too_many_of_them_all_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_events, "MOST_PASSED_BY", 2)
    outbox = Outbox(*["no key"] * 3, "")
    with pytest.raises(VaultError, match="more than 2"):
        await port_over(outbox).pending(1)
    assert outbox.marked == []
