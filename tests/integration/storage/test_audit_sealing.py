"""Sealing: each entry once, whoever writes beside it, and a batch of any size."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.storage import audit, audit_chain
from botctl.storage.audit_head import Head
from botctl.storage.engine import connect, login_engine
from support.audit_log import BOT, check, published, seal_all, write


async def test_writers_at_once_and_late_commits_are_each_sealed_once(engine: AsyncEngine, database: Any) -> None:
    ended = asyncio.Event()

    async def writer(number: int) -> None:
        connection = await connect(database.control)
        try:
            for step in range(40):
                async with connection.transaction():
                    await connection.execute(
                        "SELECT botctl_internal.record_audit($1, 'raced', 'thing', NULL, NULL)", BOT + number
                    )
                    if step % 7 == number:
                        await asyncio.sleep(0.02)  # commits behind entries that are younger
                if step % 9 == 0:
                    undone = connection.transaction()  # leaves a gap
                    await undone.start()
                    await connection.execute("SELECT botctl_internal.record_audit(1, 'undone', 'thing', NULL, NULL)")
                    await undone.rollback()
        finally:
            await connection.close()

    async def sealer() -> None:
        while not ended.is_set():
            async with engine.begin() as connection:
                await audit.seal(connection)
            await asyncio.sleep(0)

    sealing = [asyncio.create_task(sealer()) for _ in range(2)]
    await asyncio.gather(*(writer(number) for number in range(6)))
    ended.set()
    await asyncio.gather(*sealing)
    await seal_all(engine)
    async with engine.connect() as connection:
        report = await check(connection, await published(engine))
        sealed = await connection.exec_driver_sql("SELECT sum(entries), count(*) FROM audit_seals")
        entries, seals = sealed.one()
        written = (await connection.exec_driver_sql("SELECT count(*) FROM audit_log")).scalar_one()
    assert report.findings == []
    assert entries == written - report.unsealed
    assert seals > 10


async def test_an_open_transaction_holds_back_only_what_could_still_change(engine: AsyncEngine, database: Any) -> None:
    late = await connect(database.control)
    transaction = late.transaction()
    await transaction.start()
    await late.execute("SELECT botctl_internal.record_audit(1, 'late', 'thing', NULL, NULL)")
    await write(engine, 2, "younger")
    async with engine.begin() as connection:
        await audit.seal(connection)
        report, _ = await audit_chain.verify(connection)
        assert report.unsealed == 2
    await transaction.commit()
    await late.close()
    await seal_all(engine)
    async with engine.connect() as connection:
        report = await check(connection, await published(engine))
        last = await connection.exec_driver_sql(
            "SELECT array_agg(action ORDER BY audit_id) FROM audit_log, audit_seals"
            " WHERE audit_id = ANY (audit_ids) AND seal = (SELECT max(seal) FROM audit_seals)"
        )
        assert last.scalar_one() == ["late", "younger", "younger"]
    assert report.findings == []


async def test_control_may_neither_write_seals_nor_make_digests_of_its_own(engine: AsyncEngine) -> None:
    for statement in (
        "INSERT INTO audit_seals (seal, kind) VALUES (99, 'batch')",
        "UPDATE audit_seals SET digest = digest",
        "DELETE FROM audit_seals",
        "TRUNCATE audit_seals",
        "SELECT botctl_internal.rebase_audit()",
    ):
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="permission denied"):
                await connection.exec_driver_sql(statement)


async def test_a_large_batch_is_verified_a_page_at_a_time(new_database: Any) -> None:
    """A transaction is sealed as a whole, however large; all these entries at once take 25 MB."""
    control, superuser = login_engine(new_database.control), login_engine(new_database.admin)
    try:
        async with superuser.begin() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO audit_log (bot_id, actor, action, entity, after)"
                """ SELECT 1, 'operator', 'tested', 'thing', '{"n": 1}' FROM generate_series(1, 30000)"""
            )
        assert await seal_all(control) >= 30_000
        tracemalloc.start()
        try:
            async with control.connect() as connection:
                report = await check(connection)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert report.findings == []
        assert report.entries >= 30_000
        assert peak < 15_000_000
    finally:
        await control.dispose()
        await superuser.dispose()


async def test_the_digests_can_be_made_by_another_tool(engine: AsyncEngine, log: Head) -> None:
    """As docs/database.md says it, with nothing of ours."""
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT bot_id::text, extract(epoch FROM at)::text, audit_id::text, tx::text, actor, action, entity,"
            " before::text, after::text FROM audit_log WHERE audit_id = (SELECT audit_ids[1] FROM audit_seals"
            " WHERE seal = $1)",
            (log.lines[-1].seal,),
        )
        texts = ["botctl-audit-entry-1", *found.one()]
        body = b"".join(
            b"-," if text is None else f"{len(text.encode())}:".encode() + text.encode() + b"," for text in texts
        )
        kept = await connection.exec_driver_sql(
            "SELECT substr(digests, 1, 32) FROM audit_seals WHERE seal = $1", (log.lines[-1].seal,)
        )
        assert kept.scalar_one() == hashlib.sha256(body).digest()
