"""Faults: which calls they hit, and how often."""

from __future__ import annotations

import pytest

from botctl.sandbox.calls import CallLog
from botctl.sandbox.faults import FaultBox, FaultError, When
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
    assert fault.when is When.AFTER
    assert box.take("sendmessage", 2, 5) is None
    assert box.take("sendmessage", 1, 6) is None
    assert all(box.take("sendmessage", 1, 5) is fault for _ in range(10))
    assert box.clear(fault.fault_id) == 1
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
    ],
)
def test_a_wrong_fault_is_refused(raw: object) -> None:
    with pytest.raises(FaultError):
        FaultBox().add(raw)


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
