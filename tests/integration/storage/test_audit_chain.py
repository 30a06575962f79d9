"""The chain over the audit log: every way to tamper with it shows, and nothing else does. As superuser, for real."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.storage import audit
from botctl.storage.audit_chain import Fault
from botctl.storage.audit_head import Head
from botctl.storage.engine import login_engine
from support.audit_log import BOT, SEAL_OF_MIDDLE, check, published, seal_all, tampered, write


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
