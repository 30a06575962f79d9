"""A bot that keeps messages sealed: nothing in the database shows them, and everything goes on as without."""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bot_waiting import until

from botctl.runtime import messages

MARK = "xyzzy"
SEALED = {
    "messages": ("text", "entities"),
    "inbox": ("payload", "last_error"),
    "sends": ("payload", "result", "error"),
    "completions": ("response",),
    "outbox": ("data",),
}


def new_key(number: int) -> messages.Key:
    return messages.Key(id=number, material=base64.b64encode(os.urandom(32)).decode())


async def shown(bot: Any, word: str = MARK) -> set[str]:
    """Every column of every table in which the word stands in a row of the bot, whatever its type."""
    columns = await bot.rows(
        "SELECT table_name, column_name FROM information_schema.columns JOIN pg_class ON relname = table_name"
        " WHERE table_schema = 'public' AND relnamespace = 'public'::regnamespace AND relkind = 'p'"
    )
    assert len(columns) > 50
    found = set()
    for table, column in columns:
        if await bot.value(
            f"SELECT 1 FROM {table} WHERE bot_id = {{bot}} AND {column}::text LIKE '%' || $1 || '%' LIMIT 1", word
        ):
            found.add(f"{table}.{column}")
    return found


@pytest.fixture
async def bot(new_bot: Callable[..., Awaitable[Any]], database: Any) -> Any:
    made = await new_bot(database)
    made.keys = [new_key(1)]
    return made


async def everything(bot: Any) -> None:
    """Have the bot meet all that leaves text in the database."""
    await bot.say(f"{MARK} https://example.org", 100)
    await bot.say(f"{MARK} boom", 101)
    await bot.say(f"{MARK} refused", 102)
    await bot.say(f"{MARK} ordinary", 103)
    await bot.answers(1, 103)
    await bot.settled(4)


async def test_the_check_finds_every_column_when_nothing_is_sealed(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:indiscreet", share=["message.sent"], limits={"attempts": 1})
    await bot.ready()
    await everything(bot)
    found = await shown(bot)
    assert {"messages.text", "inbox.payload", "inbox.last_error", "outbox.data"} < found
    assert {"sends.payload", "sends.result"} < found
    assert MARK in bot.output()
    bot.kill()
    bot.start(handlers=None, assistant={})
    await bot.ready()
    await bot.say(f"My favourite colour is {MARK}.", 104)
    await bot.answers(1, 104)
    assert "completions.response" in await shown(bot)


async def test_no_column_shows_what_was_said(bot: Any, published: Any) -> None:
    bot.start(
        handlers="handlers_for_tests:indiscreet", share=["message.sent"], limits={"attempts": 1}, encrypt_messages=True
    )
    await bot.ready()
    await everything(bot)
    bot.kill()
    bot.start(handlers=None, assistant={})
    await bot.ready()
    await bot.say(f"My favourite colour is {MARK}.", 104)
    await bot.answers(1, 104)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.say("What is my favourite colour?", 104)
    assert MARK in (await bot.answers(2, 104))[1], "the history is opened again"
    await bot.settled(6)
    assert await shown(bot) == set()
    events = [event for event in await published(bot) if event.type not in ("message.sent", "order.placed")]
    assert "handler.failed" in {event.type for event in events}
    assert not [event for event in events if MARK in str(event.data)], "what is not shared stays out of Redis"
    assert MARK not in bot.output()
    assert any("handlers_for_tests.py" in line.get("exception", "") for line in bot.lines()), "where it was, is told"
    for table, columns in SEALED.items():
        for column in columns:
            of = await bot.rows(f"SELECT {column}::text FROM {table} WHERE bot_id = {{bot}} AND {column} IS NOT NULL")
            assert of, f"{table}.{column}: nothing was stored at all"
            assert all("$sealed" in row[0] for row in of), f"{table}.{column}"


async def test_sealed_and_clear_rows_are_read_side_by_side(bot: Any) -> None:
    for encrypt in (False, True, False):
        bot.start(assistant={}, encrypt_messages=encrypt)
        await bot.ready()
        told = len(await bot.heard())
        await bot.say(f"My {'dog' if encrypt else 'cat'} is {MARK}{told}.")
        await bot.answers(told + 1)
        await bot.settled(told + 1)
        bot.kill()
    kinds = await bot.rows("SELECT text LIKE '$sealed:%' FROM messages WHERE bot_id = {bot} ORDER BY message_id")
    assert [row[0] for row in kinds] == [False, False, True, True, False, False]
    bot.start()
    await bot.ready()
    await bot.say("What is my dog?")
    assert f"{MARK}1" in (await bot.answers(4))[3]


async def test_a_crash_in_mid_handling_is_made_up_for_from_sealed_rows(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:indiscreet", encrypt_messages=True)
    await bot.ready()
    await bot.say(f"{MARK} die")
    await bot.answers(1)

    async def journaled() -> bool:
        return await bot.value("SELECT state FROM sends WHERE bot_id = {bot}") == "sent"

    await until(journaled)
    bot.kill()
    bot.start(previous_failure="signal")
    await bot.ready()

    async def replayed() -> bool:
        return any(line["event"] == "send answered from the journal" for line in bot.lines())

    await until(replayed)
    assert await bot.heard() == [f"echo {MARK} die"], "answered once"
    assert await shown(bot) == set()


async def test_a_new_key_seals_from_now_on_and_the_old_one_opens(bot: Any) -> None:
    bot.start(assistant={}, encrypt_messages=True)
    await bot.ready()
    await bot.say(f"My favourite colour is {MARK}.")
    await bot.answers(1)
    await bot.settled(1)
    bot.keys = [new_key(2), *bot.keys]
    bot.send(messages.Rekey(keys=bot.keys))
    await bot.say("What is my favourite colour?")
    assert MARK in (await bot.answers(2))[1]
    await bot.settled(2)
    rows = await bot.rows("SELECT text FROM messages WHERE bot_id = {bot} ORDER BY message_id")
    used = [int.from_bytes(base64.b64decode(row[0].removeprefix("$sealed:"))[1:5], "big") for row in rows]
    assert used == [1, 1, 2, 2]
    assert all(key.material not in bot.output() for key in bot.keys)


@pytest.mark.parametrize("place", ["inbox.payload", "messages.text", "sends.payload", "outbox.data", "inbox.column"])
async def test_what_another_bot_has_sealed_is_refused_and_stops_nobody(
    bot: Any, new_bot: Callable[..., Awaitable[Any]], database: Any, published: Any, place: str
) -> None:
    other = await new_bot(database)
    other.keys = [new_key(1)]
    other.start(handlers="handlers_for_tests:echo", encrypt_messages=True)
    await other.ready()
    await other.say(f"{MARK} of another")
    await other.answers(1)
    await other.settled(1)
    assert await other.stop() == 0
    bot.start(handlers="handlers_for_tests:echo", encrypt_messages=True)
    await bot.ready()
    await bot.say("first")
    await bot.answers(1)
    await bot.settled(1)
    assert await bot.stop() == 0
    table, _, column = place.partition(".")
    if place == "inbox.column":  # its own ciphertext, but of another column
        await bot.rows(
            "UPDATE inbox SET state = 'new', attempts = 0, payload = (SELECT payload FROM sends WHERE bot_id = {bot})"
            " WHERE bot_id = {bot}"
        )
    else:
        await bot.rows(
            f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE bot_id = $1 LIMIT 1)"
            " WHERE bot_id = {bot}",
            other.bot_id,
        )
    again = {
        "inbox": "UPDATE inbox SET state = 'new', attempts = 0 WHERE bot_id = {bot}",
        "messages": "SELECT 1",
        "sends": "UPDATE sends SET state = 'planned', mode = 'deferred' WHERE bot_id = {bot}",
        "outbox": "UPDATE outbox SET relayed_at = NULL WHERE bot_id = {bot}",
    }
    await bot.rows(again[table])
    assistant = {"assistant": {}, "handlers": None} if table == "messages" else {}
    bot.start(**assistant)
    await bot.ready()
    await bot.say("second")
    heard = await bot.answers(2)
    assert not any(MARK in text for text in heard)
    await bot.settled(2)

    async def refused() -> bool:
        return "can't be opened" in bot.output()

    await until(refused, f"a word on {place}")
    if table == "inbox":
        assert await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND state = 'dead'") == 1
    if table == "outbox":
        waiting = "SELECT count(*) FROM outbox WHERE bot_id = {bot} AND relayed_at IS NULL"
        theirs = (
            "SELECT count(*) FROM outbox WHERE bot_id = {bot} AND data = (SELECT data FROM outbox WHERE bot_id = $1"
        )
        kept = await bot.value(f"{theirs} LIMIT 1)", other.bot_id)

        async def relayed() -> bool:
            return await bot.value(waiting) == kept

        assert kept > 0
        await until(relayed, "the others are relayed, and these stay")
        assert all(event.data for event in await published(bot)), "nothing goes out without its data"
    if table == "sends":
        assert await bot.value("SELECT state FROM sends WHERE bot_id = {bot} ORDER BY cause LIMIT 1") == "failed"
    assert MARK not in bot.output()


async def test_without_a_key_nothing_is_stored_in_clear(bot: Any) -> None:
    bot.keys = []
    bot.start(handlers="handlers_for_tests:echo", encrypt_messages=True)
    await bot.say(f"{MARK} hello")

    async def told() -> bool:
        return "has no data key" in bot.output()

    await until(told, "a word on the missing key")
    assert await shown(bot) == set()
