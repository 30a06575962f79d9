"""The chain over the audit log: every way to tamper with it shows, and nothing else does. As superuser, for real."""

from __future__ import annotations

import asyncio
import hashlib
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage import audit, audit_chain
from botctl.storage.audit_chain import Fault, Report
from botctl.storage.audit_head import Head
from botctl.storage.engine import connect, login_engine

BOT = 4001
SEAL_OF_MIDDLE = "(SELECT seal FROM audit_seals WHERE $1 = ANY (audit_ids))"


@pytest.fixture
async def superuser(database: Any) -> AsyncIterator[AsyncEngine]:
    made = login_engine(database.admin)
    yield made
    await made.dispose()


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


@pytest.fixture
async def log(engine: AsyncEngine) -> Head:
    """Three batches at least; the head as published."""
    for _ in range(3):
        await write(engine, 4)
        await seal_all(engine)
    return await published(engine)


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


async def test_an_untouched_log_is_intact(engine: AsyncEngine, log: Head) -> None:
    async with engine.connect() as connection:
        report = await check(connection, log)
    assert report.findings == []
    assert report.seals == len(log.lines) >= 3
    assert report.entries >= 12
    assert report.last_seal == log.lines[-1].seal


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "'operator:mallory'"),
        ("action", "'nothing'"),
        ("entity", "'nothing'"),
        ("after", """'{{"number": 7}}'"""),
        ("before", "'{{}}'"),
        ("after", "NULL"),
        ("bot_id", "4002"),
        ("at", "at + interval '1 microsecond'"),
    ],
)
async def test_a_changed_entry_is_named(superuser: AsyncEngine, log: Head, column: str, value: str) -> None:
    change = f"UPDATE audit_log SET {column} = {value} WHERE audit_id = {{id}}"
    async with tampered(superuser, change) as (connection, audit_id):
        report = await check(connection, log)
    assert [(one.fault, one.audit_id) for one in report.findings] == [(Fault.CHANGED, audit_id)]


async def test_a_removed_entry_is_named(superuser: AsyncEngine, log: Head) -> None:
    async with tampered(superuser, "DELETE FROM audit_log WHERE audit_id = {id}") as (connection, audit_id):
        report = await check(connection, log)
        found = await connection.exec_driver_sql(f"SELECT {SEAL_OF_MIDDLE}", (audit_id,))
        seal = found.scalar_one()
    assert [(one.fault, one.audit_id, one.seal) for one in report.findings] == [(Fault.REMOVED, audit_id, seal)]


COPY_OF = """
    INSERT INTO audit_log (bot_id, at, audit_id, actor, action, entity, tx) OVERRIDING SYSTEM VALUE
    SELECT bot_id, at + interval '1 ms', {new}, 'operator', 'forged', entity, {tx} FROM audit_log
    WHERE audit_id = {{id}}
"""


@pytest.mark.parametrize(
    ("new", "tx"), [("990001", "tx"), ("audit_id", "tx"), ("990002", "0"), ("990003", "-5")], ids=str
)
async def test_an_entry_that_is_put_in_between_is_named(superuser: AsyncEngine, log: Head, new: str, tx: str) -> None:
    async with tampered(superuser, COPY_OF.format(new=new, tx=tx)) as (connection, audit_id):
        report = await check(connection, log)
    expected = audit_id if new == "audit_id" else int(new)
    assert [(one.fault, one.audit_id) for one in report.findings] == [(Fault.INSERTED, expected)]


FORGED = "INSERT INTO audit_log (bot_id, at, actor, action, entity{columns}) VALUES (0, {at}, 'ann', 'x', 'y'{values})"


@pytest.mark.parametrize(
    ("at", "tx"),
    [
        ("now() - interval '2 hours'", "9223372036854775806"),
        ("now()", "9223372036854775806"),
        ("now()", "pg_current_xact_id()::text::bigint + 1000"),
        ("now() - interval '2 hours'", None),
        ("now() + interval '2 hours'", None),
    ],
)
async def test_a_forged_entry_is_named_before_it_has_a_seal(
    engine: AsyncEngine, superuser: AsyncEngine, log: Head, at: str, tx: str | None
) -> None:
    forged = FORGED.format(at=at, columns=", tx" if tx else "", values=f", {tx}" if tx else "")
    async with tampered(superuser, forged) as (connection, _):
        report = await check(connection, log)
        assert [one.fault for one in report.findings] == [Fault.INSERTED]
        _, unborn = await audit.unsealed(connection)
        assert unborn == (1 if tx else 0)


async def test_honest_entries_without_a_seal_are_no_forgeries(superuser: AsyncEngine, log: Head) -> None:
    async with tampered(superuser, "INSERT INTO audit_log (bot_id, action, entity) VALUES (0, 'x', 'y')") as (told, _):
        assert (await check(told, log)).findings == []


@pytest.mark.parametrize("shift", ["-1 hour", "1 hour"])
async def test_an_entry_that_is_dated_otherwise_than_its_batch_is_named(new_database: Any, shift: str) -> None:
    control, superuser = login_engine(new_database.control), login_engine(new_database.admin)
    try:
        await write(control, 2)
        await seal_all(control)
        async with superuser.begin() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO audit_log (bot_id, at, actor, action, entity)"
                f" VALUES ({BOT}, clock_timestamp() + interval '{shift}', 'operator', 'forged', 'thing')"
            )
        await seal_all(control)
        async with control.connect() as connection:
            report = await check(connection, await published(control))
    finally:
        await control.dispose()
        await superuser.dispose()
    assert [one.fault for one in report.findings] == [Fault.INSERTED]


async def test_newest_entries_that_are_cut_off_are_named(superuser: AsyncEngine, log: Head) -> None:
    cut = "DELETE FROM audit_log WHERE tx >= (SELECT from_tx FROM audit_seals ORDER BY seal DESC LIMIT 1)"
    async with tampered(superuser, cut) as (connection, _):
        report = await check(connection)
    assert {one.fault for one in report.findings} == {Fault.REMOVED}
    assert {one.seal for one in report.findings} == {log.lines[-1].seal}


async def test_a_log_that_is_cut_off_with_its_seals_shows_by_the_head(superuser: AsyncEngine, log: Head) -> None:
    cut = (
        "DELETE FROM audit_log WHERE tx >= (SELECT from_tx FROM audit_seals ORDER BY seal DESC LIMIT 1)",
        "DELETE FROM audit_seals WHERE seal = (SELECT max(seal) FROM audit_seals)",
    )
    async with tampered(superuser, *cut) as (connection, _):
        assert (await check(connection)).intact, "by itself it is a chain that fits"
        report = await check(connection, log)
    assert [(one.fault, one.seal) for one in report.findings] == [(Fault.TRUNCATED, log.lines[-1].seal)]


@pytest.mark.parametrize(
    ("statements", "faults"),
    [
        (("TRUNCATE audit_log",), {Fault.REMOVED}),
        (("TRUNCATE audit_log", "TRUNCATE audit_seals"), {Fault.TRUNCATED}),
        (("DELETE FROM audit_seals WHERE seal = 2",), {Fault.CHAIN}),
        (("DELETE FROM audit_seals WHERE seal = 1",), {Fault.TRUNCATED, Fault.INSERTED}),
        (("UPDATE audit_seals SET previous = digest WHERE seal = 2",), {Fault.CHAIN}),
        (("UPDATE audit_seals SET digests = digests || digests WHERE seal = 2",), {Fault.CHAIN}),
        (("UPDATE audit_seals SET sealed_at = sealed_at + interval '1 s' WHERE seal = 2",), {Fault.CHAIN}),
        (("UPDATE audit_seals SET to_tx = to_tx + 1, from_tx = from_tx + 1 WHERE seal = 2",), {Fault.CHAIN}),
    ],
    ids=range(8),
)
async def test_whole_tables_and_seals(
    superuser: AsyncEngine, log: Head, statements: tuple[str, ...], faults: set[Fault]
) -> None:
    async with tampered(superuser, *statements) as (connection, _):
        report = await check(connection, log)
    assert faults <= {one.fault for one in report.findings}
    assert len(report.findings) < 250


async def test_a_partition_that_is_dropped_shows(superuser: AsyncEngine, log: Head) -> None:
    month = time.strftime("%Y_%m", time.gmtime())
    async with tampered(superuser, f"DROP TABLE botctl_internal.audit_log_{month}") as (connection, _):
        report = await check(connection, log)
    assert {one.fault for one in report.findings} == {Fault.REMOVED}


MADE_ANEW = """
    DO $$
    DECLARE
        one audit_seals;
        before bytea;
    BEGIN
        FOR one IN SELECT * FROM audit_seals ORDER BY seal LOOP
            SELECT string_agg(digest, ''), sha256(string_agg(botctl_internal.audit_fields(
                       audit_id::text, botctl_internal.audit_epoch(at), encode(digest, 'hex')), ''))
            INTO one.digests, one.root
            FROM (SELECT l.*, botctl_internal.audit_entry_digest(l) AS digest FROM audit_log l
                  WHERE tx >= one.from_tx AND tx < one.to_tx ORDER BY audit_id) entries;
            one.previous := coalesce(before, one.previous);
            one.digest := botctl_internal.audit_seal_digest(one);
            UPDATE audit_seals SET digests = one.digests, root = one.root, previous = one.previous, digest = one.digest
            WHERE seal = one.seal;
            before := one.digest;
        END LOOP;
    END $$
"""


async def test_a_chain_that_is_made_anew_shows_by_the_head(superuser: AsyncEngine, log: Head) -> None:
    """All that a superuser can do: change an entry and compute every digest again."""
    forge = "UPDATE audit_log SET actor = 'operator:mallory' WHERE audit_id = {id}"
    async with tampered(superuser, forge, MADE_ANEW.replace("{", "{{").replace("}", "}}")) as (connection, _):
        assert (await check(connection)).intact, "by itself it is a chain that fits"
        report = await check(connection, log)
    numbers = [line.seal for line in log.lines]
    assert [(one.fault, one.seal) for one in report.findings] == [(Fault.HEAD, numbers[-2]), (Fault.HEAD, numbers[-1])]


async def test_a_seal_that_follows_from_another_one_shows(superuser: AsyncEngine, log: Head) -> None:
    forge = (
        "UPDATE audit_seals SET previous = sha256('another') WHERE seal = (SELECT max(seal) FROM audit_seals)",
        "UPDATE audit_seals s SET digest = botctl_internal.audit_seal_digest(s)"
        " WHERE seal = (SELECT max(seal) FROM audit_seals)",
    )
    async with tampered(superuser, *forge) as (connection, _):
        report = await check(connection)
    assert [(one.fault, one.seal) for one in report.findings] == [(Fault.CHAIN, log.lines[-1].seal)]
    assert "does not follow" in report.findings[0].text


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
