"""What an old data key has sealed is sealed anew, whatever ends it, and while the bot works."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.cli import resealing
from botctl.handover import DatabaseLogin
from botctl.security import master_keys
from botctl.security.vault import Cipher, DataKey, key_id_of, wrap
from botctl.storage import secrets
from botctl.storage.bootstrap import prepare
from botctl.storage.completions import Completions, StoredCompletion
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.engine import bot_engine, connect, login_engine, parse_database_url
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.jobs import Jobs, StoredJob
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.persistence import KeptData, KeptRow
from botctl.storage.requests import Requests, StoredReply
from botctl.storage.resealing import TABLES, Resealer
from botctl.storage.sealing import Sealing, sealed_bytes
from botctl.storage.secrets import WrappedKey
from botctl.storage.sends import SendRow, Sends
from botctl.storage.url import format_database_url

ALICE, BOB = 4201, 4202
KEYS = {bot: [DataKey.new(bot, 1), DataKey.new(bot, 2)] for bot in (ALICE, BOB)}
LOOKS_SEALED = re.compile(r'\$sealed[":\s\\]*([A-Za-z0-9+/]{20,}={0,2})')
CAUSES = [f"update:{n}" for n in range(12)]
ROWS = 8 * len(CAUSES) + len(CAUSES) // 2
"""Sealed ones: eight for each cause, and an attempt for every other."""


def _sealing(bot: int, *key_ids: int) -> Sealing:
    return Sealing(Cipher(bot, [key for key in KEYS[bot] if key.key_id in key_ids]), seals=True)


def _resealer(admin: AsyncEngine, bot: int = ALICE, batch: int = 5) -> Resealer:
    return Resealer(admin, bot, _sealing(bot, 1, 2), lambda sealed: key_id_of(sealed) != 2, batch=batch)


async def _fill(connection: AsyncConnection, bot: int, sealing: Sealing, *causes: str) -> None:
    """A row in every table for each cause, and one with nothing sealed that may be."""
    inbox, sends, store = Inbox(bot, sealing), Sends(bot, sealing), Conversations(bot, sealing)
    conversation, _ = await store.open(connection, 1, 0)
    for n, cause in enumerate(causes):
        ids = await inbox.add(connection, [NewRow(cause, n, "message", "chat:1", f'{{"n": {n}}}', "")])
        if n % 2:
            await inbox.dead(connection, ids[cause], f"error {n}", traceback=f"line {n}")
        text = f"/command {n}" if n % 3 == 0 else f"text {n}"
        entities = [{"type": "bold", "offset": 0, "length": n}] if n % 2 else None
        await store.add(connection, [StoredMessage(conversation, 1, 0, "in", "user", text, cause, entities=entities)])
        await sends.plan(connection, [SendRow(cause, 0, "deferred", "sendMessage", 1, {"text": text}, "sending")])
        if n % 2:
            await sends.sent(connection, cause, 0, {"message_id": n}, begin_next=False)
        else:
            await sends.failed(connection, cause, 0, f"refused {n}")
        await Completions(bot, sealing).record(connection, cause, 0, StoredCompletion(text, "m", 1, 1, 1))
        event = StoredEvent(f"{bot}|{cause}", "message.sent", 1, 1.0, "", cause, {"n": n})
        await Outbox(bot, sealing).add(connection, [event])
        await KeptData(bot, sealing).put(connection, [KeptRow("user", f"{cause}|{bot}", f'{{"n": {n}}}')])
        await Jobs(bot, sealing).put(connection, StoredJob(f"{cause}|{bot}", 1.0, data={"n": n}))
        asked = Requests(bot, sealing)
        await asked.add(connection, f"{cause}|{bot}", cause, "sales", "price.quote", 4e9, "")
        await asked.answer(connection, [StoredReply(f"{cause}|{bot}", "bot:1", "sales", {"n": n}, "")])


async def _stored(admin: AsyncEngine, bot: int) -> dict[str, list[str]]:
    """All values of columns that may be sealed, by `table.column`, in the order of the rows."""
    found: dict[str, list[str]] = {}
    async with admin.connect() as connection:
        for table in TABLES:
            for column in table.columns:
                result = await connection.exec_driver_sql(
                    f"SELECT {column}::text FROM {table.name} WHERE bot_id = {bot} AND {column} IS NOT NULL"
                    f" ORDER BY {', '.join(table.key)}"
                )
                found[f"{table.name}.{column}"] = list(result.scalars())
    return found


def _opened(stored: dict[str, list[str]], sealing: Sealing) -> dict[str, list[str | None]]:
    texts = {f"{table.name}.{column}" for table in TABLES for column in table.texts}
    return {
        place: [(sealing.read_text if place in texts else sealing.read_json)(*place.split("."), value) for value in of]
        for place, of in stored.items()
    }


def _keys(stored: dict[str, list[str]]) -> set[int]:
    return {key_id_of(sealed) for of in stored.values() for value in of if (sealed := sealed_bytes(value)) is not None}


async def _keys_anywhere(admin: AsyncEngine, bot: int) -> set[int]:
    """Of whatever looks sealed in any column of any table, known to `TABLES` or not."""
    found: set[int] = set()
    async with admin.connect() as connection:
        tables = await connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'p'"
        )
        for table in tables.scalars().all():
            rows = await connection.exec_driver_sql(f"SELECT t::text FROM {table} t WHERE bot_id = {bot}")
            for row in rows.scalars():
                found |= {key_id_of(base64.b64decode(one)) for one in LOOKS_SEALED.findall(row)}
    return found


@pytest.fixture
def database_of(database: Any) -> Any:
    """Makes what the fixture `database` is, of other logins."""
    return type(database)


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[AsyncEngine]:
    engine = login_engine(database.admin, pool_size=3)
    yield engine
    async with engine.begin() as connection:
        for table in (*TABLES, "conversations"):
            await connection.exec_driver_sql(
                f"DELETE FROM {getattr(table, 'name', table)} WHERE bot_id IN ({ALICE}, {BOB})"
            )
    await engine.dispose()


@pytest.fixture
async def bots(database: Any, admin: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Rows of two bots, sealed with key 1; the engine of the first."""
    for bot in (ALICE, BOB):
        login = await database.add_bot(bot)
        engine = bot_engine(login.target, bot, lambda login=login: (login.password,))
        async with engine.begin() as connection:
            await _fill(connection, bot, _sealing(bot, 1), *CAUSES)
            await _fill(connection, bot, Sealing(), "update:clear")
        if bot == ALICE:
            own = engine
        else:
            await engine.dispose()
    yield own
    await own.dispose()


async def test_every_value_is_sealed_anew_and_says_the_same(admin: AsyncEngine, bots: AsyncEngine) -> None:
    before, others = await _stored(admin, ALICE), await _stored(admin, BOB)
    assert _keys(before) == {1}
    assert all(before.values()), "no column is left out"
    said = _opened(before, _sealing(ALICE, 1))
    resealer = _resealer(admin)
    assert await resealer.left() == ROWS
    done = await resealer.run()
    assert (done.rows, done.faults, await resealer.left()) == (ROWS, [], 0)
    after = await _stored(admin, ALICE)
    assert _keys(after) == {2}
    assert await _keys_anywhere(admin, ALICE) == {2}
    assert _opened(after, _sealing(ALICE, 2)) == said, "the new key alone opens all of it; what was clear still is"
    assert await _stored(admin, BOB) == others
    assert (await resealer.run()).rows == 0
    assert await _stored(admin, ALICE) == after, "nothing is done twice"


async def test_whatever_ends_it_the_rest_is_done_by_the_next(
    admin: AsyncEngine, bots: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _opened(await _stored(admin, ALICE), _sealing(ALICE, 1))
    total = runs = 0
    write = Resealer._write

    while True:
        resealer, batches = _resealer(admin, batch=2), 0

        async def die(*arguments: Any) -> None:
            nonlocal batches
            batches += 1
            await write(*arguments)
            if batches == 3:
                raise asyncio.CancelledError  # before its commit

        monkeypatch.setattr(Resealer, "_write", die)
        runs += 1
        left = await resealer.left()
        try:
            total += (await resealer.run()).rows
        except asyncio.CancelledError:
            assert await resealer.left() == left - 4, "two batches of two; the third was not committed"
            assert _opened(await _stored(admin, ALICE), _sealing(ALICE, 1, 2)) == said, "at any moment"
            continue
        break
    assert runs > 10
    after = await _stored(admin, ALICE)
    assert _keys(after) == {2}
    assert _opened(after, _sealing(ALICE, 2)) == said


async def test_a_row_that_is_held_is_left_for_later(admin: AsyncEngine, bots: AsyncEngine) -> None:
    resealer = _resealer(admin)
    async with bots.begin() as connection:
        await Sends(ALICE, _sealing(ALICE, 2)).begin(connection, CAUSES[0], 0)
        await connection.exec_driver_sql(f"UPDATE inbox SET attempts = 1 WHERE bot_id = {ALICE} AND cause = 'update:0'")
        async with asyncio.timeout(10):
            done = await resealer.run()
        assert (done.rows, await resealer.left()) == (ROWS - 1, 1)
    assert (await resealer.run()).rows == 1
    assert await resealer.left() == 0


async def test_the_bot_works_on_meanwhile(admin: AsyncEngine, bots: AsyncEngine) -> None:
    """It stores and changes rows with the new key; nothing of it is undone or fails."""
    stop, worked = asyncio.Event(), 0
    sealing = _sealing(ALICE, 1, 2)

    async def work() -> None:
        nonlocal worked
        while not stop.is_set():
            async with bots.begin() as connection:
                await _fill(connection, ALICE, sealing, f"update:new{worked}")
                inbox_id = await connection.exec_driver_sql(
                    f"SELECT inbox_id FROM inbox WHERE bot_id = {ALICE} AND cause = $1", (CAUSES[worked % 12],)
                )
                await Inbox(ALICE, sealing).dead(connection, inbox_id.scalar_one(), f"changed {worked}")
            worked += 1

    task = asyncio.create_task(work())
    resealer = _resealer(admin, batch=1)
    rows = 0
    async with asyncio.timeout(60):
        while worked < 10 or await resealer.left():
            rows += (await resealer.run()).rows
        stop.set()
        await task
    assert rows >= ROWS
    after = await _stored(admin, ALICE)
    assert _keys(after) == {2}
    assert len(after["messages.text"]) == len(CAUSES) + 1 + worked
    _opened(after, _sealing(ALICE, 2))


async def test_an_administrator_who_is_no_superuser_may_do_it_too(new_postgres: Any, database_of: Any) -> None:
    """And older keys go as soon as they have been retired for long enough, which is written down."""
    root = parse_database_url(new_postgres.admin_url)
    superuser = await connect(replace(root, target=replace(root.target, database="postgres")))
    await superuser.execute("CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'manager'")
    await superuser.close()
    manager = DatabaseLogin(target=root.target, user="manager", password="manager")
    managed = database_of(manager, (await prepare(format_database_url(manager))).control)
    login = await managed.add_bot(ALICE)
    masters = master_keys.new_keys()
    control, admin = login_engine(managed.control), login_engine(manager)
    own = bot_engine(login.target, ALICE, lambda: (login.password,))
    rows = [
        WrappedKey(ALICE, key.key_id, masters.current.version, masters.current.check, wrap(masters.current, key))
        for key in KEYS[ALICE]
    ]
    async with control.begin() as connection:
        await secrets.add_keys(connection, rows)
        await secrets.retire_keys(connection, ALICE, 2)
    async with own.begin() as connection:
        await _fill(connection, ALICE, _sealing(ALICE, 1), *CAUSES)
    await resealing._reseal(admin, "alice", ALICE, masters)
    async with control.connect() as connection:
        assert [key.key_id for key in await secrets.read_keys(connection)] == [1, 2], "retired a moment ago"
        entries = await connection.exec_driver_sql(
            "SELECT actor, after FROM audit_log WHERE action = 'secrets.resealed'"
        )
        told = {"number": 2, "rows": ROWS, "left": 0, "dropped": []}
        assert [tuple(entry) for entry in entries] == [("manager", told)]
        sealed = await connection.exec_driver_sql("SELECT text FROM messages")
        assert {key_id_of(sealed_bytes(text) or b"") for text in sealed.scalars()} == {2}
    async with admin.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL ROLE botctl_owner")
        await connection.exec_driver_sql("UPDATE bot_keys SET retired_at = now() - interval '11 min' WHERE key_id = 1")
    await resealing._reseal(admin, "alice", ALICE, masters)
    async with control.connect() as connection:
        assert [key.key_id for key in await secrets.read_keys(connection)] == [2]
    for engine in (control, admin, own):
        await engine.dispose()


async def test_what_can_not_be_opened_is_told_and_left_as_it_is(admin: AsyncEngine, bots: AsyncEngine) -> None:
    async with admin.begin() as connection:
        await connection.exec_driver_sql(
            f"UPDATE messages SET text = (SELECT text FROM messages WHERE bot_id = {BOB} AND cause = 'update:1')"
            f" WHERE bot_id = {ALICE} AND cause = 'update:1'"
        )
    resealer = _resealer(admin)
    done = await resealer.run()
    assert len(done.faults) == 1
    assert "can't be opened" in done.faults[0]
    assert (done.rows, await resealer.left()) == (ROWS - 1, 1)
