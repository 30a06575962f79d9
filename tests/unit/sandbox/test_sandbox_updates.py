"""The queue of updates: ids, confirmation, waiting, conflicts."""

from __future__ import annotations

import asyncio

import pytest

from botctl.sandbox.telegram.errors import ApiError
from botctl.sandbox.telegram.updates import RETENTION, UpdateQueue


def queue_with(count: int, first_id: int = 100) -> UpdateQueue:
    queue = UpdateQueue(first_id)
    for number in range(count):
        queue.push("message", {"n": number})
    return queue


async def ids(queue: UpdateQueue, offset: int = 0, limit: int = 100) -> list[int]:
    return [update.update_id for update in await queue.poll(offset, limit, 0)]


async def test_an_update_stays_until_a_higher_offset_is_asked_for() -> None:
    queue = queue_with(3)
    assert await ids(queue) == [100, 101, 102]
    assert await ids(queue) == [100, 101, 102]
    assert await ids(queue, 100) == [100, 101, 102]
    assert await ids(queue, 102) == [102]
    assert await ids(queue) == [102]
    assert (len(queue), queue.confirmed) == (1, 2)


async def test_limit_leaves_the_rest() -> None:
    queue = queue_with(3)
    assert await ids(queue, limit=2) == [100, 101]
    assert await ids(queue, 102, limit=2) == [102]


async def test_a_negative_offset_counts_from_the_end_and_forgets_what_is_before() -> None:
    queue = queue_with(5)
    assert await ids(queue, -2) == [103, 104]
    assert await ids(queue) == [103, 104]
    assert await ids(queue, -50) == [103, 104]


async def test_an_offset_far_in_the_future_is_answered_from_the_oldest_and_forgets_nothing() -> None:
    queue = queue_with(2)
    assert await ids(queue, 5_000) == [100, 101]
    assert await ids(queue, 112) == []
    assert len(queue) == 0


async def test_updates_are_kept_for_a_day() -> None:
    now = 1000.0
    queue = UpdateQueue(1, clock=lambda: now)
    queue.push("message", {})
    now += RETENTION + 1
    queue.push("message", {})
    assert await ids(queue) == [2]


async def test_a_poll_waits_for_the_next_update() -> None:
    queue = queue_with(0)
    poll = asyncio.create_task(queue.poll(0, 100, 30))
    await asyncio.sleep(0)
    assert queue.polled
    queue.push("message", {})
    assert [update.update_id for update in await asyncio.wait_for(poll, 1)] == [100]
    assert not queue.polled


async def test_a_poll_ends_empty_when_its_time_is_over() -> None:
    assert await asyncio.wait_for(queue_with(0).poll(0, 100, 0.01), 1) == []


async def test_a_second_poll_that_waits_ends_the_first() -> None:
    queue = queue_with(0)
    first = asyncio.create_task(queue.poll(0, 100, 30))
    await asyncio.sleep(0)
    second = asyncio.create_task(queue.poll(0, 100, 30))
    with pytest.raises(ApiError, match="terminated by other getUpdates request") as caught:
        await asyncio.wait_for(first, 1)
    assert caught.value.code == 409
    queue.push("message", {})
    assert len(await asyncio.wait_for(second, 1)) == 1


async def test_a_poll_that_does_not_wait_ends_nobody() -> None:
    queue = queue_with(0)
    first = asyncio.create_task(queue.poll(0, 100, 30))
    await asyncio.sleep(0)
    assert await ids(queue) == []
    assert queue.polled
    first.cancel()


async def test_a_cancelled_poll_frees_its_place() -> None:
    queue = queue_with(0)
    first = asyncio.create_task(queue.poll(0, 100, 30))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not queue.polled
    queue.push("message", {})
    assert await ids(queue) == [100]


async def test_strict_polling_holds_a_repeated_offset() -> None:
    queue = UpdateQueue(1, strict=True)
    assert await ids(queue) == []
    held = asyncio.create_task(queue.poll(0, 100, 0))
    await asyncio.sleep(0)
    assert queue.polled
    queue.push("message", {})
    assert len(await asyncio.wait_for(held, 1)) == 1


def test_allowed_updates_decide_what_is_queued_and_stay_until_changed() -> None:
    queue = UpdateQueue(1)
    assert not queue.wants("message_reaction")
    assert queue.push("message_reaction", {}) is None
    queue.allow(["callback_query"])
    assert queue.push("message", {}) is None
    assert queue.push("callback_query", {}) == 1
    queue.allow(None)
    assert not queue.wants("message")
    queue.allow([])
    assert queue.wants("message")


def test_a_raw_update_gets_the_next_id_whatever_is_in_it() -> None:
    queue = UpdateQueue(7)
    assert queue.push_raw({"update_id": 1, "message": "nonsense"}) == 7
    assert queue.pending()[0].as_json() == {"update_id": 7, "message": "nonsense"}
