"""Requests and keys of what is done once: whose they are, and how long they are kept."""

from __future__ import annotations

from typing import Any

from botctl.storage import once
from botctl.storage.engine import bot_engine, connect, login_engine
from botctl.storage.once import OnceKeys
from botctl.storage.requests import Requests, RequestState, StoredReply

BOT = 4_100_001


async def made(database: Any) -> Any:
    login = await database.add_bot(BOT)
    admin = await connect(database.admin)
    await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, 'keeper') ON CONFLICT DO NOTHING", BOT)
    await admin.close()
    return bot_engine(login.target, BOT, lambda: (login.password,))


async def test_a_key_is_held_taken_or_freed(new_database: Any) -> None:
    engine, keys = await made(new_database), OnceKeys(BOT)
    async with engine.begin() as connection:
        assert await keys.take(connection, "a", "one", for_good=False)
        assert await keys.take(connection, "a", "one", for_good=False), "again for the same cause"
        assert not await keys.take(connection, "a", "two", for_good=False)
        assert await keys.look(connection, "a") == ("held", "one")
        await keys.release(connection, "one")
        assert await keys.take(connection, "a", "two", for_good=False)
        await keys.keep(connection, "two")
        await keys.release(connection, "two")
        assert await keys.look(connection, "a") == ("taken", "two")
        assert await keys.take(connection, "a", "two", for_good=False), "its replay"
        assert await keys.look(connection, "a") == ("taken", "two"), "and it stays taken"
    await engine.dispose()


async def test_a_reply_counts_from_whom_it_was_asked_of_only_and_once(new_database: Any) -> None:
    engine, requests = await made(new_database), Requests(BOT)

    def reply(source: str, name: str, error: str = "") -> StoredReply:
        return StoredReply("r", source, name, {"price": 1}, error)

    async with engine.begin() as connection:
        noted = await requests.add(connection, "r", "update:1", "shop", "price.quote", 2e9, "t")
        assert noted.state is RequestState.WAITING
        for thief in (reply("bot:9", "eve"), reply("bot:9", ""), reply("bot:shopper", "shopper")):
            assert await requests.answer(connection, [thief]) == frozenset()
        assert await requests.answer(connection, [reply("bot:2", "shop")]) == {"r"}
        assert await requests.answer(connection, [reply("bot:2", "shop")]) == frozenset()
        again = await requests.add(connection, "r", "update:1", "shop", "price.quote", 2e9, "t")
        assert (again.state, again.reply) == (RequestState.ANSWERED, {"price": 1})
        await requests.void(connection, "update:1")
        assert (await requests.find(connection, ["r"]))["r"].state is RequestState.ANSWERED
        for target, source in (("2", "bot:2"), ("shop", "fleet")):
            await requests.add(connection, f"of {target}", "update:2", target, "price.quote", 2e9, "t")
            told = StoredReply(f"of {target}", source, "", {}, "unwilling")
            assert await requests.answer(connection, [told]) == {f"of {target}"}
        await requests.void(connection, "update:2")
        assert (await requests.find(connection, ["of 2"]))["of 2"].state is RequestState.VOID
    await engine.dispose()


async def test_keys_are_kept_for_thirty_days_and_requests_for_seven(new_database: Any) -> None:
    engine, keys, requests = await made(new_database), OnceKeys(BOT), Requests(BOT)
    async with engine.begin() as connection:
        for key in ("old", "young"):
            await keys.take(connection, key, "c", for_good=True)
            await requests.add(connection, key, "c", "shop", "price.quote", 2e9, "t")
    await engine.dispose()
    admin = await connect(new_database.admin)
    await admin.execute("UPDATE once_keys SET at = now() - interval '31 days' WHERE key = 'old'")
    await admin.execute("UPDATE requests SET deadline = now() - interval '8 days' WHERE request_id = 'old'")
    await admin.execute("UPDATE requests SET deadline = now() - interval '6 days' WHERE request_id = 'young'")
    control = login_engine(new_database.control)
    async with control.begin() as connection:
        assert await once.prune(connection) == 2
        assert await once.prune(connection) == 0
    await control.dispose()
    assert [row["key"] for row in await admin.fetch("SELECT key FROM once_keys")] == ["young"]
    assert [row["request_id"] for row in await admin.fetch("SELECT request_id FROM requests")] == ["young"]
    await admin.close()
