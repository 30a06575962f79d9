"""What is done is forgotten when its time is over, with what belongs to it; what somebody still needs stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.pruner import Pruner
from botctl.storage import deliveries, pruning
from botctl.storage.engine import connect

Connection = asyncpg.Connection
DAY = 86_400


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.admin)
    yield connection
    await connection.close()


async def handled(admin: Connection[Any], bot: int, number: int, days: float, state: str = "done") -> None:
    """An inbox row of that age with a send, a completion and an attempt."""
    cause = f"update:{number}"
    inbox_id = await admin.fetchval(
        "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state, received_at, done_at)"
        " VALUES ($1, $2, 'message', 'chat:1', '{}', $3, now() - make_interval(secs => $4),"
        " CASE WHEN $3 IN ('done', 'dropped') THEN now() - make_interval(secs => $4) END) RETURNING inbox_id",
        bot, cause, state, days * DAY,
    )  # fmt: skip
    await admin.execute(
        "INSERT INTO sends (bot_id, cause, n, mode, method, payload, state)"
        " VALUES ($1, $2, 0, 'inline', 'x', '{}', 'sent')",
        bot, cause,
    )  # fmt: skip
    await admin.execute("INSERT INTO completions (bot_id, cause, step, response) VALUES ($1, $2, 0, '{}')", bot, cause)
    await admin.execute(
        "INSERT INTO attempts (bot_id, inbox_id, attempt, outcome) VALUES ($1, $2, 1, 'failed')", bot, inbox_id
    )


async def relayed(admin: Connection[Any], bot: int, number: int, hours: float | None) -> None:
    """An event that was relayed so many hours ago; None: not yet."""
    await admin.execute(
        "INSERT INTO outbox (bot_id, event_id, type, relayed_at)"
        " VALUES ($1, $2, 'shop.paid', now() - make_interval(secs => $3))",
        bot, f"e{number}", None if hours is None else hours * 3600,
    )  # fmt: skip


async def left(admin: Connection[Any], bot: int) -> dict[str, set[str]]:
    """What there is of each, by cause."""
    found = {
        table: {row[0] for row in await admin.fetch(f"SELECT cause FROM {table} WHERE bot_id = $1", bot)}
        for table in ("inbox", "sends", "completions")
    }
    rows = await admin.fetch("SELECT cause FROM attempts JOIN inbox USING (bot_id, inbox_id) WHERE bot_id = $1", bot)
    return found | {"attempts": {row[0] for row in rows}}


async def test_what_was_done_long_ago_goes_with_all_that_belongs_to_it(
    admin: Connection[Any], engine: AsyncEngine, bot: int
) -> None:
    for number in range(6):
        await handled(admin, bot, number, days=40)
    await handled(admin, bot, 6, days=40, state="dead")
    await handled(admin, bot, 7, days=40, state="new")
    await handled(admin, bot, 8, days=40, state="dropped")
    await handled(admin, bot, 9, days=40)
    await admin.execute("UPDATE sends SET state = 'planned' WHERE bot_id = $1 AND cause = 'update:9'", bot)
    for number in (10, 11):
        await handled(admin, bot, number, days=29)
    pruner = Pruner(engine, {}, at_once=2)
    await pruner.round(rest=0)
    kept = {f"update:{number}" for number in (6, 7, 9, 10, 11)}
    assert await left(admin, bot) == dict.fromkeys(("inbox", "sends", "completions", "attempts"), kept)
    orphans = await admin.fetchval(
        "SELECT count(*) FROM attempts a WHERE bot_id = $1 AND NOT EXISTS"
        " (SELECT FROM inbox i WHERE i.bot_id = a.bot_id AND i.inbox_id = a.inbox_id)", bot,
    )  # fmt: skip
    assert orphans == 0
    assert pruner.forgotten["inbox"] == 7
    await pruner.round(rest=0)
    assert pruner.forgotten["inbox"] == 7


async def test_relayed_events_go_after_their_hours_and_waiting_ones_never(
    admin: Connection[Any], engine: AsyncEngine, bot: int
) -> None:
    ages = [None, 90.0, 80.0, 3.0, 1.5, 0.5, None]
    for bot_id in (bot, 0):
        for number, hours in enumerate(ages):
            await relayed(admin, bot_id, number, hours)
    pruner = Pruner(engine, {}, at_once=3)
    await pruner.round(rest=0)
    for bot_id in (bot, 0):
        rows = await admin.fetch("SELECT event_id FROM outbox WHERE bot_id = $1 ORDER BY seq", bot_id)
        assert [row[0] for row in rows] == ["e0", "e4", "e5", "e6"]
    assert pruner.forgotten["outbox"] == 6
    await admin.execute("DELETE FROM outbox WHERE bot_id = 0")


async def test_counters_do_not_fall_when_what_they_counted_is_forgotten(
    admin: Connection[Any], engine: AsyncEngine, bot: int
) -> None:
    for number, state in enumerate(("done", "done", "dropped", "dead")):
        await handled(admin, bot, number, days=40, state=state)
    await handled(admin, bot, 4, days=1)
    await admin.execute("UPDATE sends SET uncertain = 2 WHERE bot_id = $1 AND cause <> 'update:3'", bot)
    await admin.execute(
        "UPDATE attempts SET outcome = 'retried' WHERE bot_id = $1 AND inbox_id ="
        " (SELECT inbox_id FROM inbox WHERE bot_id = $1 AND cause = 'update:0')", bot,
    )  # fmt: skip
    pruner = Pruner(engine, {}, at_once=2)
    for _ in range(3):
        async with engine.connect() as connection:
            assert (await deliveries.uncertain_sends(connection))[bot] == 8
            assert (await deliveries.dead_letters_ever(connection))[bot] == 3
            assert (await deliveries.dead_letters(connection))[bot] == 1
        await pruner.round(rest=0)
    assert (await left(admin, bot))["inbox"] == {"update:3", "update:4"}


async def test_sends_outside_of_the_inbox_and_ended_jobs_go_too(
    admin: Connection[Any], engine: AsyncEngine, bot: int
) -> None:
    sends = {"op:a": (40, "sent"), "op:b": (40, "failed"), "op:c": (40, "planned"), "op:d": (3, "sent"),
             "op:e": (40, "sent"), "event:x": (40, "sent")}  # fmt: skip
    for cause, (days, state) in sends.items():
        await admin.execute(
            "INSERT INTO sends (bot_id, cause, n, mode, method, payload, state, uncertain, planned_at)"
            " VALUES ($1, $2, 0, 'inline', 'x', '{}', $3, 1, now() - make_interval(days => $4))",
            bot, cause, state, days,
        )  # fmt: skip
    await handled(admin, bot, 1, days=1)
    await admin.execute("UPDATE inbox SET cause = 'op:e' WHERE bot_id = $1", bot)  # an operator's, dealt with lately
    jobs = {"done": ("done", 40, 39), "late": ("done", 40, 3), "off": ("cancelled", 40, -90),
            "waits": ("waiting", 40, 35), "new": ("cancelled", 3, 3)}  # fmt: skip
    for name, (state, days, due) in jobs.items():
        await admin.execute(
            "INSERT INTO jobs (bot_id, name, state, due_at, set_at)"
            " VALUES ($1, $2, $3, now() - make_interval(days => $5), now() - make_interval(days => $4))",
            bot, name, state, days, due,
        )  # fmt: skip
    pruner = Pruner(engine, {}, at_once=1)
    await pruner.round(rest=0)
    causes = {row[0] for row in await admin.fetch("SELECT cause FROM sends WHERE bot_id = $1", bot)}
    assert causes == {"op:c", "op:d", "op:e", "event:x", "update:1"}
    names = {row[0] for row in await admin.fetch("SELECT name FROM jobs WHERE bot_id = $1", bot)}
    assert names == {"late", "waits", "new"}
    assert (pruner.forgotten["sends"], pruner.forgotten["jobs"]) == (2, 2)
    async with engine.connect() as connection:
        assert (await deliveries.uncertain_sends(connection))[bot] == 6


async def test_too_short_a_time_is_refused_and_bots_may_not_forget(
    database: Any, engine: AsyncEngine, bot: int
) -> None:
    steps = (pruning.prune_inbox, pruning.prune_outside, pruning.prune_jobs)
    for step, keep in ((pruning.prune_outbox, 3599.0), *((step, DAY * 1.9) for step in steps)):
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError, match="at least"):
                await step(connection, bot, keep, 0, 10)
    own = await connect(await database.add_bot(bot))
    try:
        for function in ("prune_outbox", "prune_inbox", "prune_outside", "prune_jobs"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await own.fetch(f"SELECT * FROM botctl_internal.{function}($1, 1e9, 0, 10)", bot)
    finally:
        await own.close()


async def test_no_event_goes_while_redis_is_not_well(admin: Connection[Any], engine: AsyncEngine, bot: int) -> None:
    """It may come back empty, and is given the hour before it went."""
    await relayed(admin, bot, 1, hours=5)
    await handled(admin, bot, 1, days=40)
    sound = [False]
    pruner = Pruner(engine, {}, redis_is_sound=lambda: sound[0])
    await pruner.round(rest=0)
    assert (pruner.forgotten["outbox"], pruner.forgotten["inbox"]) == (0, 1)
    sound[0] = True
    await pruner.round(rest=0)
    assert pruner.forgotten["outbox"] == 1


async def test_the_hour_that_an_empty_redis_is_given_is_kept_though_it_takes_a_while_until_it_is_missed(
    admin: Connection[Any], engine: AsyncEngine, bot: int
) -> None:
    await relayed(admin, bot, 1, hours=1 + 30 / 3600)
    await Pruner(engine, {"outbox_keep": 1.0}).round(rest=0)
    assert await admin.fetchval("SELECT count(*) FROM outbox WHERE bot_id = $1", bot) == 1
