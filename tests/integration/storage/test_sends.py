"""The statements of the send journal, over PostgreSQL: each names the state it changes, and may be repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage.chats import Chats
from botctl.storage.conversations import Conversations
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.jobs import Jobs, StoredJob
from botctl.storage.sends import SendRow, Sends

BOT = 6_600_001
NEVER = ("sendgift",)


@pytest.fixture
async def engine(database: Any) -> AsyncIterator[AsyncEngine]:
    login = await database.add_bot(BOT)
    engine = bot_engine(login.target, BOT, lambda: (login.password,))
    yield engine
    await engine.dispose()


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """All of a test is one transaction that is undone."""
    async with engine.connect() as connection:
        yield connection


def row(cause: str, n: int = 0, state: str = "planned", mode: str = "inline", method: str = "sendMessage") -> SendRow:
    return SendRow(cause, n, mode, method, 7, {"chat_id": 7}, state)


async def state_of(connection: AsyncConnection, cause: str, n: int = 0) -> tuple[str, int, int]:
    result = await connection.exec_driver_sql(
        f"SELECT state, uncertain, attempts FROM sends WHERE bot_id = {BOT} AND cause = $1 AND n = $2", (cause, n)
    )
    state, uncertain, attempts = result.one()
    return state, uncertain, attempts


@pytest.mark.parametrize(
    ("step", "outcomes"),
    [
        # from planned, sending, sent, skipped
        ("begin", [("sending", 0, 1), ("sending", 0, 1), ("sent", 0, 1), ("skipped", 0, 0)]),
        ("unbegin", [("planned", 0, 0), ("planned", 0, 1), ("sent", 0, 1), ("skipped", 0, 0)]),
        ("again", [("planned", 0, 0), ("planned", 1, 1), ("sent", 0, 1), ("skipped", 0, 0)]),
        ("never", [("planned", 0, 0), ("skipped", 1, 1), ("sent", 0, 1), ("skipped", 0, 0)]),
        ("failed", [("failed", 0, 0), ("failed", 0, 1), ("sent", 0, 1), ("skipped", 0, 0)]),
    ],
)
async def test_each_step_done_twice_is_done_once(
    connection: AsyncConnection, step: str, outcomes: list[tuple[str, int, int]]
) -> None:
    sends = Sends(BOT)
    begun_from = ("planned", "sending", "sending", "skipped")
    for cause, state in zip("abcd", begun_from, strict=True):
        await sends.plan(connection, [row(cause, state=state)])
    await sends.sent(connection, "c", 0, True, begin_next=False)
    for _ in range(2):
        for cause in "abcd":
            if step in ("begin", "unbegin"):
                await getattr(sends, step)(connection, cause, 0)
            elif step == "failed":
                await sends.failed(connection, cause, 0, "BadRequest: no")
            else:
                await sends.hidden(connection, cause, 0, "cut", again=step == "again")
    assert [await state_of(connection, cause) for cause in "abcd"] == outcomes


@pytest.mark.parametrize("then", ["begin", "sent"])
async def test_what_telegram_asked_to_wait_for_is_forgotten_with_its_next_word(
    connection: AsyncConnection, then: str
) -> None:
    sends = Sends(BOT)

    async def waits() -> list[bool]:
        rows = await connection.exec_driver_sql(
            f"SELECT waits_until IS NOT NULL FROM sends WHERE bot_id = {BOT} ORDER BY n"
        )
        return [row[0] for row in rows]

    await sends.plan(connection, [row("a", n, state="sending", mode="deferred") for n in range(2)])
    await sends.unbegin(connection, "a", 1, wait=30.0)
    assert await waits() == [False, True]
    if then == "begin":
        await sends.begin(connection, "a", 1)
    else:
        await sends.sent(connection, "a", 0, True, begin_next=True)
    assert await waits() == [False, False]


async def test_what_becomes_of_inline_sends_that_nothing_will_finish(connection: AsyncConnection) -> None:
    sends, inbox = Sends(BOT), Inbox(BOT)
    waits, dead = (NewRow(cause, n, "message", "chat:7", "{}", "") for n, cause in enumerate(("waits", "dead")))
    ids = await inbox.add(connection, [waits, dead])
    await inbox.dead(connection, ids["dead"], "five attempts")
    for cause in ("waits", "dead", "op:1"):
        gift = row(cause, 2, "sending", method="sendGift")
        await sends.plan(connection, [row(cause, 0, "sending"), row(cause, 1, "planned"), gift])
    dropped = NewRow("dropped", 9, "message", "chat:7", "{}", "")
    await inbox.add(connection, [dropped])
    await connection.exec_driver_sql(f"UPDATE inbox SET state = 'dropped' WHERE bot_id = {BOT} AND cause = 'dropped'")
    await sends.plan(connection, [row("dropped", 0, "planned")])
    for times in (1, 0):  # a second process finds nothing more to count
        assert await sends.abandon(connection, "the process ended") == 2 * times
        assert await sends.leave(connection, None, "the process ended", again=True, never=NEVER) == 2 * times
    found = {cause: [await state_of(connection, cause, n) for n in range(3)] for cause in ("waits", "dead", "op:1")}
    assert [one[:2] for one in found["waits"]] == [("sending", 0), ("planned", 0), ("sending", 0)]
    assert [one[:2] for one in found["dead"]] == [("planned", 1), ("planned", 0), ("skipped", 1)]
    assert [one[:2] for one in found["op:1"]] == [("skipped", 1), ("failed", 0), ("skipped", 1)]
    assert (await state_of(connection, "dropped"))[0] == "planned", "it may be retried one day"


async def test_a_cause_that_is_done_or_given_up_closes_its_sends(connection: AsyncConnection) -> None:
    sends = Sends(BOT)
    for cause in ("done", "dead"):
        await sends.plan(connection, [row(cause, 0, "sending"), row(cause, 1, "planned")])
        await sends.plan(connection, [row(cause, 2, "planned", "deferred")])
    assert await sends.abandon_of_cause(connection, "done", "cut short") == 1
    assert await sends.leave(connection, "dead", "given up", again=False, never=NEVER) == 1
    assert [(await state_of(connection, "done", n))[0] for n in range(3)] == ["skipped", "failed", "planned"]
    assert [(await state_of(connection, "dead", n))[0] for n in range(3)] == ["skipped", "planned", "planned"]


async def test_an_unreachable_chat_ends_its_deferred_sends_only(connection: AsyncConnection) -> None:
    sends, chats = Sends(BOT), Chats(BOT)
    await sends.plan(connection, [row("a", 0, "planned", "deferred"), row("a", 1, "sending", "deferred")])
    await sends.plan(connection, [row("b", 0, "planned")])
    assert await sends.failed_of_chat(connection, 7, "blocked") == 1
    assert await sends.failed_of_chat(connection, 8, "blocked") == 0
    states = [(await state_of(connection, cause, n))[0] for cause, n in (("a", 0), ("a", 1), ("b", 0))]
    assert states == ["failed", "sending", "planned"]
    assert await chats.lost(connection, 7, "blocked")
    assert not await chats.lost(connection, 7, "kicked")
    assert (await chats.known(connection, 10)).unreachable == {7: "blocked"}
    assert await chats.found(connection, 7)
    assert not await chats.found(connection, 7)
    assert (await chats.known(connection, 10)).unreachable == {}


async def test_a_group_moves_once_with_its_jobs(connection: AsyncConnection) -> None:
    chats, jobs = Chats(BOT), Jobs(BOT)
    await jobs.put(connection, StoredJob("remind", 1e9, chat_id=-5))
    assert await chats.moved(connection, -5, -1005)
    assert not await chats.moved(connection, -5, -1005)
    assert (await chats.known(connection, 10)).moved == {-5: -1005}
    assert [job.chat_id for job in await jobs.waiting(connection)] == [-1005]


async def test_a_conversation_that_was_begun_in_the_supergroup_goes_on_there(connection: AsyncConnection) -> None:
    store, chats = Conversations(BOT), Chats(BOT)
    old, _ = await store.open(connection, -5, 0)
    topic, _ = await store.open(connection, -5, 3)
    new, _ = await store.open(connection, -1005, 0)
    assert await chats.moved(connection, -5, -1005)
    assert await store.open(connection, -1005, 0) == (new, False)
    assert await store.open(connection, -1005, 3) == (topic, False)
    closed = await connection.exec_driver_sql(
        f"SELECT conversation_id FROM conversations WHERE bot_id = {BOT} AND closed_at IS NOT NULL"
    )
    assert closed.scalars().all() == [old]


async def test_a_job_fires_once_for_each_of_its_times(connection: AsyncConnection) -> None:
    jobs = Jobs(BOT)
    await jobs.put(connection, StoredJob("tick", 1000.123, every=5.0, data={"n": 1}))
    await jobs.put(connection, StoredJob("once", 2000.0))
    assert await jobs.first(connection) == 1000.123
    assert [job.name for job in await jobs.due(connection, 1500.0, 10)] == ["tick"]
    due = await jobs.due(connection, 3000.0, 10)
    assert await jobs.fired(connection, [(due[0], 3000.123), (due[1], None)], 3000.0) == {"tick", "once"}
    assert await jobs.fired(connection, [(due[0], 3000.123), (due[1], None)], 3000.0) == set()
    waiting = await jobs.waiting(connection)
    assert [(job.name, job.due_at, job.data) for job in waiting] == [("tick", 3000.123, {"n": 1})]
    assert await jobs.cancel(connection, "tick")
    assert not await jobs.cancel(connection, "tick")
    await jobs.put(connection, StoredJob("once", 5000.0))
    assert await jobs.first(connection) == 5000.0


async def test_jobs_that_were_set_or_due_while_the_clock_was_ahead_are_found(connection: AsyncConnection) -> None:
    jobs = Jobs(BOT)
    await jobs.put(connection, StoredJob("set", 9060.0, every=60.0, set_at=9000.0))
    await jobs.put(connection, StoredJob("once", 9060.0, set_at=9000.0))
    await jobs.put(connection, StoredJob("tick", 1000.0, every=60.0, set_at=900.0))
    assert [job.name for job in await jobs.set_after(connection, 1000.0)] == ["set"]
    due = await jobs.due(connection, 8000.0, 10)
    await jobs.fired(connection, [(due[0], 8060.0)], 8000.0)
    assert {job.name: job.set_at for job in await jobs.set_after(connection, 1000.0)} == {"set": 9000.0, "tick": 8000.0}


async def test_a_time_that_is_none_keeps_no_other_job_waiting(connection: AsyncConnection) -> None:
    jobs = Jobs(BOT)
    for name in ("never", "always"):
        await jobs.put(connection, StoredJob(name, 1000.0))
        sign = "-" if name == "always" else ""
        await connection.exec_driver_sql(
            f"UPDATE jobs SET due_at = '{sign}infinity' WHERE bot_id = {BOT} AND name = '{name}'"
        )
    await jobs.put(connection, StoredJob("once", 2000.0))
    assert await jobs.first(connection) == 2000.0
    assert [job.name for job in await jobs.due(connection, 3000.0, 10)] == ["once"]


async def _looked_at(connection: AsyncConnection, statement: str, values: str) -> int:
    """Rows that the whole plan of a statement has looked at, kept or not, each of them by an index."""
    await connection.exec_driver_sql(f"PREPARE asked AS {statement}")
    result = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked{values}")
    plan = result.scalar_one()
    nodes, found = [(json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            assert node["Node Type"].startswith("Index"), node
            found += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    await connection.exec_driver_sql("DEALLOCATE asked")
    return int(found)


async def test_a_long_journal_is_not_read_for_what_is_open(connection: AsyncConnection) -> None:
    sends, jobs, chats = Sends(BOT), Jobs(BOT), Chats(BOT)
    await connection.exec_driver_sql(
        "INSERT INTO sends (bot_id, cause, n, mode, method, chat_id, payload, state)"
        f" SELECT {BOT}, 'old:' || n, 0, mode, 'sendMessage', 7, '{{}}', 'sent'"
        " FROM generate_series(1, 1000) n, unnest(ARRAY['inline', 'deferred']) mode ON CONFLICT DO NOTHING"
    )
    await connection.exec_driver_sql(
        "INSERT INTO jobs (bot_id, name, state, due_at)"
        f" SELECT {BOT}, 'old:' || n, 'done', now() FROM generate_series(1, 1000) n"
    )
    await sends.plan(connection, [row("new", 0, "sending")])
    for statement, values in (
        (sends._abandon_planned, "('x')"),
        (sends._abandon_begun, "('x')"),
        (sends._leave_of_dead, "('x', true, '{}')"),
        (sends._leave_of_cause, "('x', true, '{}', 'new')"),
        (sends._unfinished, ""),
        (sends._failed_of_chat, "(7, 'x')"),
        (jobs._first, ""),
        (jobs._waiting, "(now(), 10)"),
        (chats._known, "(10)"),
    ):
        assert await _looked_at(connection, statement, values) <= 10, statement
