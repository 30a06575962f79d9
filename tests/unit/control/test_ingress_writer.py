"""One batch of updates, when the database refuses some of it: who is told what, and how long the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import asyncpg

from botctl.control.ingress import writer as writing
from botctl.control.ingress.writer import Outcome, Writer
from botctl.storage.sealing import UNSEALED
from botctl.storage.updates import read_update

ALICE, BOB = 1001, 1002


class Refusing(Writer):
    """Over a database that takes no row of `bad`, and then answers no more if it is to `hang`."""

    def __init__(self, bad: int, *, hang: bool) -> None:
        super().__init__(cast("Any", None), lambda _: None, patience=5.0)
        self.bad, self.hang = bad, hang
        self.commits: list[list[int]] = []

    async def _try(self, shares: Sequence[Any], until: float) -> Any:
        self.commits.append([share.bot_id for share in shares])
        if self.hang and len(shares[0].waiting) == 1:
            return shares[0], TimeoutError()
        for share in shares:
            if share.bot_id == self.bad and not any(one.row.dead for one in share.waiting):
                return share, asyncpg.ProgramLimitExceededError("too much")
        for share in shares:
            writing._settle(share.waiting, {}, Outcome.KNOWN)
        return None


async def outcomes(writer: Writer, *bot_ids: int) -> list[Outcome]:
    """Of updates that come together, one of each of these."""
    waiting = [
        writer.put(bot_id, read_update(b'{"update_id": %d, "message": {}}' % number, "t"), UNSEALED)
        for number, bot_id in enumerate(bot_ids)
    ]
    task = asyncio.create_task(writer.run())
    try:
        return await asyncio.wait_for(asyncio.gather(*waiting), 10)
    finally:
        task.cancel()


async def test_who_is_refused_goes_alone_after_the_others() -> None:
    writer = Refusing(ALICE, hang=False)
    assert await outcomes(writer, ALICE, BOB, ALICE, 1003) == [Outcome.KNOWN] * 4
    assert writer.commits == [[ALICE, BOB, 1003], [BOB, 1003], [ALICE], [ALICE], [ALICE], [ALICE]]


async def test_a_database_that_hangs_is_not_asked_again_for_each_row() -> None:
    writer = Refusing(ALICE, hang=True)
    assert await outcomes(writer, ALICE, ALICE, ALICE, BOB, BOB) == [Outcome.AWAY] * 3 + [Outcome.KNOWN] * 2
    assert writer.commits == [[ALICE, BOB], [BOB], [ALICE]]
    assert writer.problem is not None
