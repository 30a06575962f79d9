"""Faults: which calls they hit, and how often."""

from __future__ import annotations

import asyncio

import pytest

from botctl.sandbox.calls import CallLog
from botctl.sandbox.faults.box import FaultBox
from botctl.sandbox.faults.holds import Holds
from botctl.sandbox.faults.spec import FaultError, When, parse_fault
from botctl.sandbox.telegram.flood import FloodControl


def test_a_fault_hits_its_method_so_many_times_after_skipping() -> None:
    box = FaultBox()
    box.add({"method": "sendMessage", "status": 429, "retry_after": 2, "skip": 1, "times": 2})
    hit = [box.take("sendmessage") is not None for _ in range(5)]
    assert hit == [False, True, True, False, False]
    assert box.take("getupdates") is None


def test_a_fault_may_be_for_one_bot_and_chat_and_last_for_ever() -> None:
    box = FaultBox()
    fault = box.add({"bot_id": 1, "chat_id": 5, "cut": True, "times": None, "when": "after"})
    assert fault.spec.when is When.AFTER
    assert box.take("sendmessage", 2, 5) is None
    assert box.take("sendmessage", 1, 6) is None
    assert all(box.take("sendmessage", 1, 5) is fault for _ in range(10))
    assert box.clear(fault.fault_id) == [fault.fault_id]
    assert box.take("sendmessage", 1, 5) is None


@pytest.mark.parametrize(
    "raw",
    [
        {},
        [],
        {"method": "x"},
        {"status": "500"},
        {"status": 99},
        {"cut": 1},
        {"times": 0, "cut": True},
        {"delay": -1},
        {"when": "later", "cut": True},
        {"unknown": 1},
        {"cut": True, "chance": 0},
        {"cut": True, "chance": 1.5},
        {"cut": True, "from": 3, "until": 3},
        {"cut": True, "every": 0},
        {"release_on": "getMe", "cut": True},
        {"truncated": True, "cut": True},
        {"updates": "sideways"},
        {"finish_reason": "tired"},
    ],
)
def test_a_wrong_fault_is_refused(raw: object) -> None:
    with pytest.raises(FaultError):
        FaultBox().add(raw)


def test_a_wrong_fault_is_told_by_its_field() -> None:
    with pytest.raises(FaultError, match=r"unknown field 'dealy'; known: method, .*from, until"):
        FaultBox().add({"dealy": 1})
    with pytest.raises(FaultError, match=r"field 'status'.*599.*, not 99999"):
        FaultBox().add({"status": 99999})


def test_a_fault_has_a_window_of_time() -> None:
    moments = iter([100.0, 100.0, 101.9, 102.0, 104.9, 105.0])
    box = FaultBox(lambda: next(moments))
    box.add({"cut": True, "from": 2, "until": 5})
    assert [box.take("getme") is not None for _ in range(5)] == [False, False, True, True, False]
    assert len(box) == 0


def test_a_fault_hits_every_nth_call() -> None:
    box = FaultBox()
    box.add({"cut": True, "every": 3, "skip": 1})
    assert [box.take("getme") is not None for _ in range(8)] == [place in (3, 6) for place in range(8)]


def test_chance_is_drawn_by_its_seed_and_can_be_drawn_again() -> None:
    def drawn(seed: int) -> list[bool]:
        box = FaultBox()
        box.add({"cut": True, "chance": 0.3, "seed": seed})
        return [box.take("getme") is not None for _ in range(1000)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 240 < sum(drawn(1)) < 360


def test_a_fault_hits_once_unless_its_times_or_its_kind_says_otherwise() -> None:
    assert parse_fault({"cut": True}).times == 1
    assert parse_fault({"cut": True, "chance": 0.5}).times is None
    assert parse_fault({"cut": True, "until": 5, "times": 2}).times == 2
    assert (parse_fault({"retry_after": 3}).code, parse_fault({"migrate_to_chat_id": -5}).code) == (429, 400)


async def test_what_is_held_goes_on_when_released_dropped_called_for_or_at_its_time() -> None:
    holds = Holds()

    async def held(fault_id: int, *, release_on: str | None = None, longest: float = 0.0) -> bool:
        with holds.hold(
            fault_id, "sendMessage", 1, 5, owner=None, effect=False, release_on=release_on, longest=longest
        ) as one:
            return await one.freed

    waiting = [
        asyncio.create_task(held(1)),
        asyncio.create_task(held(2)),
        asyncio.create_task(held(3, release_on="getupdates")),
        asyncio.create_task(held(4, longest=0.01)),
    ]
    await asyncio.sleep(0)
    assert [one.fault_id for one in holds.find()] == [1, 2, 3, 4]
    assert holds.release(1) == 1
    assert holds.release(2, drop=True) == 1
    holds.called("getupdates", 2)
    assert 3 in [one.fault_id for one in holds.find()]
    holds.called("getupdates", 1)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 1) == [True, False, True, True]
    assert len(holds) == 0


def test_calls_are_bounded_and_counts_are_not() -> None:
    log = CallLog(limit=3)
    for number in range(10):
        log.add(1, "sendMessage", {"text": "x" * 5000, "n": number}, 200 if number else 400)
    assert [call.number for call in log.find()] == [8, 9, 10]
    assert len(log.find()[0].parameters["text"]) < 600
    assert log.counts[1]["sendMessage"] == 10
    assert log.errors[1][400] == 1
    assert [call.number for call in log.find(after=9, method="SENDMESSAGE", bot_id=1)] == [10]


def test_flood_control_lets_a_burst_pass_and_then_says_how_long_to_wait() -> None:
    flood = FloodControl(burst=2, rate=0.5)
    assert [flood.admit(1, 5, 0.0) for _ in range(3)] == [0, 0, 2]
    assert flood.admit(1, 6, 0.0) == 0
    assert flood.admit(1, 5, 2.0) == 0
    assert FloodControl().admit(1, 5, 0.0) == 0


def test_flood_control_counts_chats_groups_and_the_whole_bot() -> None:
    flood = FloodControl.telegram()
    assert [flood.admit(1, 5, 0.0) for _ in range(4)] == [0, 0, 0, 1]
    sent = [flood.admit(1, -5, number * 1.0, group=True) for number in range(40)]
    assert sent.count(0) == 20 + 39 // 3, "20 at once and one every 3 s"
    many = FloodControl.telegram()
    assert [many.admit(1, chat, 0.0) for chat in range(100, 131)] == [0] * 30 + [1]
    assert many.admit(2, 100, 0.0) == 0


def test_an_album_counts_each_of_its_messages_and_is_not_refused_for_ever() -> None:
    flood = FloodControl(burst=3, rate=1.0)
    assert flood.admit(1, 5, 0.0, count=10) == 0
    assert flood.admit(1, 5, 0.0) == 8
    assert flood.admit(1, 5, 8.0) == 0
