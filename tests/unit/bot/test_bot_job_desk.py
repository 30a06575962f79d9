"""The desk notices a clock that goes back while it waits."""

from __future__ import annotations

import asyncio
from typing import Any

from botctl.bot.jobs.desk import JobDesk
from botctl.bot.tasks import end
from botctl.storage.jobs import StoredJob


class FakeJobs:
    """One job that was due while the clock was a month ahead."""

    def __init__(self) -> None:
        self.asked = 0
        self.back: list[tuple[str, float | None]] = []
        self.found = asyncio.Event()

    async def first(self, connection: Any) -> float | None:
        return None

    async def set_after(self, connection: Any, moment: float) -> list[StoredJob]:
        self.asked += 1
        return [StoredJob("tick", 9060.0, every=60.0, set_at=9000.0)] if moment < 9000 else []

    async def fired(self, connection: Any, fired: Any, now: float) -> set[str]:
        self.back += [(job.name, due) for job, due in fired]
        if self.back:
            self.found.set()
        return {job.name for job, _ in fired}


class FakeDatabase:
    async def statement(self, work: Any) -> Any:
        return await work(None)

    transaction = statement


async def test_a_clock_that_is_set_back_is_noticed_once() -> None:
    jobs, now = FakeJobs(), 9000.0
    fakes: Any = (FakeDatabase(), jobs, None, None)
    desk = JobDesk(*fakes, lambda: now, lambda: 0.0)
    run = asyncio.create_task(desk.run())
    for _ in range(3):  # it looks again and again; the clock is only ever behind what it was once
        desk._changed.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert (jobs.asked, jobs.back) == (1, [])
    now = 1000.0
    desk._changed.set()
    async with asyncio.timeout(5):
        await jobs.found.wait()
    await end([run])
    assert jobs.back == [("tick", 1060.0)]
    assert jobs.asked == 2
