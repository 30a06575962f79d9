"""Lifecycle records on their way to `control`."""

from __future__ import annotations

import sys

import pytest

from botctl.runtime import messages
from botctl.runtime.record_outbox import KEPT, KEPT_BYTES, UNDER_WAY, RecordOutbox


def record(seq: int, **more: object) -> messages.Lifecycle:
    given = {"name": "a", "bot_id": 1, "incarnation": 1, "from_state": "x", "to_state": "y", "reason": "", "at": 0.0}
    return messages.Lifecycle(seq=seq, **(given | more))


def told(outbox: RecordOutbox) -> list[int]:
    found = []
    while (one := outbox.next()) is not None:
        found.append(one.seq)
    return found


def test_each_is_told_once_and_again_to_the_next_control():
    outbox = RecordOutbox()
    for seq in (1, 2, 3):
        outbox.add(record(seq))
    assert told(outbox) == [1, 2, 3]
    assert told(outbox) == []
    outbox.recorded(1)
    outbox.add(record(4))
    assert told(outbox) == [4]
    outbox.again()
    assert told(outbox) == [2, 3, 4]


def test_few_are_under_way_at_a_time():
    outbox = RecordOutbox()
    for seq in range(1, 2 * UNDER_WAY + 1):
        outbox.add(record(seq))
    assert told(outbox) == list(range(1, UNDER_WAY + 1))
    outbox.recorded(10)
    assert told(outbox) == list(range(UNDER_WAY + 1, UNDER_WAY + 11))


def test_the_oldest_go_when_there_are_too_many():
    outbox = RecordOutbox()
    for seq in range(KEPT + 5):
        outbox.add(record(seq))
    assert told(outbox)[0] == 5


@pytest.mark.parametrize("character", ["x", "€", "🤖"])
@pytest.mark.parametrize("where", ["stacks", "log_tail"])
def test_memory_is_bounded_by_leaving_out_what_stands_in_the_file(character: str, where: str):
    outbox = RecordOutbox()
    for seq in range(KEPT_BYTES // 65_536 + 50):
        text = character * (65_536 + seq)  # each a string of its own
        outbox.add(record(seq, **{where: text if where == "stacks" else [text]}))
    kept = [one for one, _ in outbox._records]
    assert getattr(kept[0], where)
    assert not getattr(kept[-1], where)
    assert len(kept) == KEPT_BYTES // 65_536 + 50
    texts = [text for one in kept for text in (one.stacks, *one.log_tail)]
    assert KEPT_BYTES / 2 < sum(map(sys.getsizeof, texts)) <= KEPT_BYTES
