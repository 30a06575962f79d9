"""Writes, seals and looks at an audit log, for the tests of its chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage import audit, audit_chain
from botctl.storage.audit_chain import Report
from botctl.storage.audit_head import Head

BOT = 4001
SEAL_OF_MIDDLE = "(SELECT seal FROM audit_seals WHERE $1 = ANY (audit_ids))"


async def write(engine: AsyncEngine, count: int, action: str = "tested") -> None:
    for number in range(count):
        async with engine.begin() as connection:
            await audit.record(connection, BOT, action, "thing", after={"number": number, "text": 'žlutý "kůň"\n'})


async def seal_all(engine: AsyncEngine) -> int:
    """Until what was written before is sealed: others of this server may have transactions open."""
    async with engine.connect() as connection:
        top = (await connection.exec_driver_sql("SELECT coalesce(max(tx), 0) FROM audit_log")).scalar_one()
    total, deadline = 0, time.monotonic() + 20
    while True:
        async with engine.begin() as connection:
            total += await audit.seal(connection)
            query = "SELECT coalesce(max(to_tx), 0) FROM audit_seals"
            if (await connection.exec_driver_sql(query)).scalar_one() > top:
                return total
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def published(engine: AsyncEngine) -> Head:
    async with engine.connect() as connection:
        return Head(await audit.seals_after(connection, 0, 100_000), [])


async def check(connection: AsyncConnection, head: Head | None = None) -> Report:
    report, known = await audit_chain.verify(connection)
    if head is not None:
        report.findings += audit_chain.compare_head(head, known)
    return report


@asynccontextmanager
async def tampered(superuser: AsyncEngine, *statements: str) -> AsyncIterator[tuple[AsyncConnection, int]]:
    """A superuser's transaction that has run the statements; `{id}` is an entry in the middle. It is taken back."""
    async with superuser.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT audit_ids[2] FROM audit_seals WHERE entries = 4 ORDER BY seal DESC LIMIT 1 OFFSET 1"
        )
        audit_id = found.scalar_one()
        for statement in statements:
            await connection.exec_driver_sql(statement.format(id=audit_id))
        yield connection, audit_id
        await connection.rollback()
