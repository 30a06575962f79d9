"""Old months of the audit log are forgotten, and the chain knows; so it does in another cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.storage import audit
from botctl.storage.audit_chain import Fault
from botctl.storage.engine import login_engine
from support.audit_log import BOT, check, published, seal_all, write

OLD = "date_trunc('month', now()) - interval '5 months' + interval '3 days'"


@pytest.fixture
async def aged(new_database: Any) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    """A log of which a sealed part is five months old: the partition of then, and one entry in the DEFAULT one."""
    control, superuser = login_engine(new_database.control), login_engine(new_database.admin)
    first = f"date_trunc('month', {OLD})"
    async with superuser.begin() as connection:
        name = await connection.exec_driver_sql(
            f"SELECT 'audit_log_' || to_char({OLD}, 'YYYY_MM'), {first}::text, ({first} + interval '1 month')::text"
        )
        table, begin, end = name.one()
        await connection.exec_driver_sql(
            f"CREATE TABLE botctl_internal.{table} PARTITION OF audit_log FOR VALUES FROM ('{begin}') TO ('{end}')"
        )
        for at in (OLD, f"{OLD} + interval '1 day'", f"{OLD} - interval '1 month'", "now()"):
            await connection.exec_driver_sql(
                f"INSERT INTO audit_log (bot_id, at, action, entity, tx) VALUES ({BOT}, {at}, 'aged', 'thing', 0)"
            )
    await seal_all(control)
    await write(control, 2)
    await seal_all(control)
    yield control, superuser
    await control.dispose()
    await superuser.dispose()


async def test_retention_forgets_old_months_and_is_no_truncation(aged: tuple[AsyncEngine, AsyncEngine]) -> None:
    control, superuser = aged
    head = await published(control)
    async with control.begin() as connection:
        assert await audit.forget(connection, 90) is not None
        assert await audit.forget(connection, 90) is None, "once"
    async with control.connect() as connection:
        left = (await connection.exec_driver_sql("SELECT count(*) FROM audit_log WHERE action = 'aged'")).scalar_one()
        assert left == 1
        report = await check(connection, head)
        assert report.findings == []
        assert report.cutoff is not None
        assert report.first_seal == 1, "it has an entry that is kept"
    await write(control, 1)
    await seal_all(control)
    async with superuser.connect() as connection:
        assert (await check(connection, await published(control))).findings == []
        await connection.exec_driver_sql("DELETE FROM audit_log WHERE action = 'aged'")
        assert [one.fault for one in (await check(connection)).findings] == [Fault.REMOVED], "it is not old enough"


async def test_seals_of_forgotten_entries_go_and_their_last_digest_stays(
    aged: tuple[AsyncEngine, AsyncEngine],
) -> None:
    control, superuser = aged
    head = await published(control)
    async with superuser.begin() as connection:  # as though all of the first seals were old
        await connection.exec_driver_sql(
            "UPDATE audit_seals SET ats = ARRAY(SELECT now() - interval '1 year'"
            " FROM unnest(ats)) WHERE seal < (SELECT max(seal) FROM audit_seals)"
        )
    async with control.begin() as connection:
        assert await audit.forget(connection, 90) is not None
    async with superuser.connect() as connection:
        report = await check(connection, head)
        assert report.first_seal == head.lines[-1].seal
        assert {one.fault for one in report.findings} <= {Fault.INSERTED}  # the young entry whose time was forged here
        assert await audit.seal_digest(connection, head.lines[-2].seal) == head.lines[-2].digest
        savepoint = await connection.begin_nested()
        await connection.exec_driver_sql(f"DELETE FROM audit_seals WHERE seal = {report.first_seal}")
        found = [one for one in (await check(connection)).findings if one.fault is Fault.TRUNCATED]
        assert [one.text for one in found] == [
            f"seals before {report.first_seal + 1} are gone, and no retention says so"
        ], "the retention has forgotten one less"
        await savepoint.rollback()
        await connection.exec_driver_sql("DELETE FROM audit_seals WHERE kind = 'retention'")
        assert Fault.TRUNCATED in {one.fault for one in (await check(connection)).findings}
        await connection.rollback()


async def test_retention_waits_for_the_seal(aged: tuple[AsyncEngine, AsyncEngine]) -> None:
    control, superuser = aged
    async with superuser.begin() as connection:
        await connection.exec_driver_sql(
            f"INSERT INTO audit_log (bot_id, at, action, entity) VALUES ({BOT}, {OLD}, 'unsealed', 'thing')"
        )
    async with control.begin() as connection:
        assert await audit.forget(connection, 90) is None
    async with control.connect() as connection:
        with pytest.raises(Exception, match="a day must be kept"):
            await audit.forget(connection, 0)


async def test_a_forged_number_does_not_drive_up_those_to_come(aged: tuple[AsyncEngine, AsyncEngine]) -> None:
    control, superuser = aged
    async with superuser.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO audit_log (bot_id, action, entity, tx) VALUES (0, 'forged', 'thing', 9223372036854775806)"
        )
    async with superuser.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT botctl_internal.rebase_audit()")).scalar_one() is False
    await write(control, 2)
    async with control.connect() as connection:
        assert [one.fault for one in (await check(connection)).findings] == [Fault.INSERTED]


async def test_a_database_restored_into_a_younger_cluster_goes_on(aged: tuple[AsyncEngine, AsyncEngine]) -> None:
    control, superuser = aged
    async with superuser.begin() as connection:
        far = await connection.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint + 1000000")
        forged = far.scalar_one()
        # As a restored database looks: its numbers are far above those of this cluster.
        await connection.exec_driver_sql(
            "INSERT INTO audit_log (bot_id, action, entity, tx) VALUES (0, 'of the old cluster', 'thing', $1)",
            (forged,),
        )
    async with superuser.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT botctl_internal.rebase_audit()")).scalar_one() is True
    async with superuser.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT botctl_internal.rebase_audit()")).scalar_one() is False
    await write(control, 2)
    await seal_all(control)
    async with control.connect() as connection:
        report = await check(connection, await published(control))
        count = (await connection.exec_driver_sql("SELECT count(*) FROM audit_log")).scalar_one()
    assert report.findings == []
    assert report.unsealed == 0
    assert report.entries == count
