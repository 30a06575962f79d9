"""What is committed is in memory and in PostgreSQL, in the same order; what is not is in neither."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
import telegram
from telegram.ext import ApplicationBuilder

from botctl.bot.database import Database
from botctl.bot.handling.scope import Scope, current
from botctl.bot.keeping.drafts import BOT, Draft, NotLoadedError, Owner
from botctl.bot.keeping.memory import KeptMemory
from botctl.bot.keeping.persistence import KeepingApplication
from botctl.bot.sending.bot_api import OutsideJobQueue, ScopedApplication
from botctl.bot.vitals.health import Health
from botctl.errors import VaultError
from botctl.security.vault import Cipher, DataKey
from botctl.storage.engine import bot_engine
from botctl.storage.persistence import KeptData, KeptRow
from botctl.storage.sealing import Sealing

_numbers = count(4_800_001)


def user(number: int) -> Owner:
    return "user", str(number)


class Bot:
    """The memories that one bot's processes have, one after the other."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self.database = database
        self.bot_id = bot_id
        self.sealing = Sealing(Cipher(bot_id, [DataKey.new(bot_id, 1)]), seals=True)

    async def memory(self, sealing: Sealing | None = None, **most: int) -> KeptMemory:
        memory = KeptMemory(self.database, KeptData(self.bot_id, *([sealing] if sealing else [])), **most)
        await memory.open()
        return memory

    async def commit(
        self, memory: KeptMemory, draft: Draft, *, pause: float = 0.0, error: Exception | None = None
    ) -> None:
        """As the end of an attempt does it."""
        async with memory.ending(draft) as rows:

            async def work(connection: Any) -> None:
                await memory.store(connection, rows)
                await asyncio.sleep(pause)
                if error is not None:
                    raise error

            await self.database.transaction(work)


@pytest.fixture
async def bot(database: Any) -> AsyncIterator[Bot]:
    bot_id = next(_numbers)
    login = await database.add_bot(bot_id, connection_limit=12)
    engine = bot_engine(login.target, bot_id, lambda: (login.password,), pool_size=8)
    made = Database(engine, Health(), clock=time.monotonic)
    await made.first()
    yield Bot(made, bot_id)
    await made.close()


async def test_a_commit_that_fails_changes_neither_memory_nor_table(bot: Bot) -> None:
    memory = await bot.memory()
    draft = memory.draft()
    draft.values(user(1))["n"] = 1
    await bot.commit(memory, draft)
    failing = memory.draft()
    failing.values(user(1))["n"] = 2
    with pytest.raises(ZeroDivisionError):
        await bot.commit(memory, failing, error=ZeroDivisionError())
    for one in (memory, await bot.memory()):
        assert one.draft().values(user(1)) == {"n": 1}


async def test_commits_at_the_same_time_lose_nothing_and_leave_memory_and_table_alike(bot: Bot) -> None:
    memory = await bot.memory()
    first = memory.draft()
    first.values(BOT)["users"] = {}
    await bot.commit(memory, first)
    drafts = [memory.draft() for _ in range(20)]
    for number, draft in enumerate(drafts):
        draft.values(BOT)["users"][number] = {"n": number}
        draft.values(BOT)["last"] = number
        draft.values(user(number % 3))[f"of {number}"] = number
    await asyncio.gather(
        *(bot.commit(memory, draft, pause=0.001 * (number % 4)) for number, draft in enumerate(drafts))
    )
    again = await bot.memory()
    assert memory.draft().values(BOT)["users"] == {number: {"n": number} for number in range(20)}
    for owner in (BOT, user(0), user(1), user(2)):
        assert memory.draft().values(owner) == again.draft().values(owner)
    assert len(again.draft().values(user(0))) == 7


async def test_two_owners_changed_crosswise_do_not_wait_for_each_other_for_ever(bot: Bot) -> None:
    memory = await bot.memory()
    drafts = [memory.draft() for _ in range(10)]
    for number, draft in enumerate(drafts):
        for owner in (user(1), user(2)) if number % 2 else (user(2), user(1)):
            draft.values(owner)[number] = True
    async with asyncio.timeout(10):
        await asyncio.gather(*(bot.commit(memory, draft, pause=0.002) for draft in drafts))
    assert len(memory.draft().values(user(1))) == len(memory.draft().values(user(2))) == 10


async def test_more_than_memory_holds_is_read_when_it_is_needed(bot: Bot) -> None:
    memory = await bot.memory(most_owners=10)
    assert memory.whole
    for number in range(50):
        draft = memory.draft()
        draft.values(user(number))["n"] = number
        draft.values(BOT)["seen"] = number
        await bot.commit(memory, draft)
        await memory.load([user(number + 1)])
    assert not memory.whole
    assert len(memory.owners("user")) <= 10
    with pytest.raises(NotLoadedError):
        memory.draft().values(user(1))
    again = await bot.memory(most_owners=10)
    for one in (memory, again):
        await one.load([user(1), user(2), user(777)])
        assert one.draft().values(user(1)) == {"n": 1}
        assert one.draft().values(user(777)) == {}
        assert one.draft().values(BOT) == {"seen": 49}


async def test_a_conversations_timeout_finds_what_is_kept_though_memory_holds_others_by_then(bot: Bot) -> None:
    memory = await bot.memory(most_owners=3)
    draft = memory.draft()
    draft.values(user(7))["name"] = "Ada"
    await bot.commit(memory, draft)
    for number in range(50, 60):
        draft = memory.draft()
        await memory.load([user(number)])
        draft.values(user(number))["n"] = number
        await bot.commit(memory, draft)
    assert not memory.whole
    application = ApplicationBuilder().application_class(ScopedApplication).token("1:x").updater(None).build()
    assert isinstance(application, ScopedApplication)
    application.keep(memory)
    seen: list[Any] = []

    class Timer:
        """As a ConversationHandler sets it: with the update, and without an id of its own."""

        user_id = chat_id = None
        data = SimpleNamespace(update=telegram.Update(1, message=telegram.Message(
            1, datetime.now(UTC), telegram.Chat(7, "private"), from_user=telegram.User(7, "Ada", False)
        )))  # fmt: skip

        async def run(self, application: Any) -> None:
            seen.append(application.user_data[7]["name"])

    await OutsideJobQueue.job_callback(cast("Any", SimpleNamespace(application=application)), Timer())
    assert seen == ["Ada"]


async def test_what_was_dropped_unread_is_gone(bot: Bot) -> None:
    memory = await bot.memory()
    draft = memory.draft()
    draft.values(user(1)).update(a=1, b=2)
    await bot.commit(memory, draft)
    again = await bot.memory(most_owners=1)
    dropping = again.draft()
    dropping.empty(user(1))
    await bot.commit(again, dropping)
    assert (await bot.memory()).owners("user") == []


async def test_what_is_changed_outside_of_a_handling_is_committed_by_the_flush(bot: Bot) -> None:
    memory = await bot.memory()
    memory.current.values(BOT)["timer"] = [1]
    await memory.flush()
    memory.current.values(BOT)["timer"].append(2)
    draft = memory.draft()
    draft.values(BOT)["other"] = 1
    await bot.commit(memory, draft)
    assert memory.current.values(BOT) == {"timer": [1, 2], "other": 1}
    await memory.flush()
    assert (await bot.memory()).draft().values(BOT) == {"timer": [1, 2], "other": 1}


async def test_with_encrypt_messages_nothing_of_it_stands_in_the_table(
    bot: Bot, postgres_admin_url: str, database: Any
) -> None:
    memory = await bot.memory(bot.sealing)
    draft = memory.draft()
    draft.values(user(1))["secret"] = "Ada lives in Rome"
    await bot.commit(memory, draft)
    rows: Any = await bot.database.statement(
        lambda connection: connection.exec_driver_sql(f"SELECT value FROM kept_data WHERE bot_id = {bot.bot_id}")
    )
    (value,) = rows.scalars()
    assert value.startswith("$sealed:")
    assert (await bot.memory(bot.sealing)).draft().values(user(1)) == {"secret": "Ada lives in Rome"}
    blind = await bot.memory()
    blind.draft().values(BOT)["fine"] = True
    with pytest.raises(VaultError):
        blind.draft().values(user(1))


async def test_a_row_that_is_no_text_of_ours_is_left_alone_and_told(bot: Bot) -> None:
    data = KeptData(bot.bot_id)
    odd = [KeptRow("user", "1", '{"$dict":7}'), KeptRow("user", "2", '{"n":1}')]
    await bot.database.statement(lambda connection: data.put(connection, odd))
    memory = await bot.memory()
    with pytest.raises(VaultError, match="can't be read"):
        memory.draft().values(user(1))
    assert memory.draft().values(user(2)) == {"n": 1}


async def test_what_was_brought_for_an_attempt_is_there_however_little_memory_holds(bot: Bot) -> None:
    memory = await bot.memory()
    for owner in (BOT, user(1), ("chat", "1")):
        draft = memory.draft()
        draft.values(owner)["much"] = "x" * 4000
        await bot.commit(memory, draft)
    small = await bot.memory(most_bytes=5000)
    scope = Scope(cause="update:1", trace_id="t")
    current.set(scope)
    try:
        await small.bring([user(1), ("chat", "1"), user(2)])
        for owner in (BOT, user(1), ("chat", "1")):
            small.current.values(owner)["n"] = 1
        assert small.current.values(user(2)) == {}
        await bot.commit(small, small.current)
    finally:
        current.set(None)
    again = (await bot.memory()).draft()
    for owner in (BOT, user(1), ("chat", "1")):
        assert again.values(owner) == {"much": "x" * 4000, "n": 1}


async def test_what_can_not_be_read_can_be_dropped(bot: Bot) -> None:
    data = KeptData(bot.bot_id)
    await bot.database.statement(lambda connection: data.put(connection, [KeptRow("user", "1", '{"$dict":7}')]))
    memory = await bot.memory()
    memory.current.values(BOT)["timer"] = 1
    memory.current.empty(user(1))
    await memory.flush()
    again = await bot.memory()
    assert again.draft().values(BOT) == {"timer": 1}
    assert again.draft().values(user(1)) == memory.draft().values(user(1)) == {}


async def test_a_flush_that_fails_ends_no_task_of_python_telegram_bot(bot: Bot, monkeypatch: Any) -> None:
    memory = await bot.memory()
    application = object.__new__(KeepingApplication)
    application._memory = memory
    memory.current.values(BOT)["timer"] = 1

    async def refused(*_: Any) -> None:
        raise ValueError("no row of this table")

    with monkeypatch.context() as patch:
        patch.setattr(memory._data, "put", refused)
        await application.update_persistence()
    assert (await bot.memory()).draft().values(BOT) == {}
    await application.update_persistence()
    assert (await bot.memory()).draft().values(BOT) == {"timer": 1}


async def test_a_group_that_moves_while_memory_is_full_fails_nothing(bot: Bot) -> None:
    memory = await bot.memory()
    for chat in ("-5", "-6"):
        draft = memory.draft()
        draft.values(("chat", chat))["n"] = 1
        await bot.commit(memory, draft)
    application = object.__new__(ScopedApplication)
    application.bot = None  # type: ignore[assignment]
    application._chat_ids_to_be_updated_in_persistence = set()
    small = await bot.memory(most_owners=1)
    application.keep(small)
    current.set(Scope(cause="update:1", trace_id="t"))
    try:
        await application.load_data(chats=[-5])
        application.take_along(-5, -1005)
        assert application.chat_data[-5] == {"n": 1}
        await application.load_data(chats=[-1005])
        application.take_along(-5, -1005)
        assert application.chat_data[-1005] == {"n": 1}
        assert -5 not in application.chat_data
    finally:
        current.set(None)
