"""The main job on one running fleet: answers, rows under their bot, events, reactions, isolation, what is printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from support.stack import Stack, eventually, new_stack, token

pytestmark = pytest.mark.e2e

NORA, BRAM = 7100000001, 7100000002


@pytest.fixture(scope="module")
def running() -> Stack:
    with new_stack() as stack:
        stack.write_fleet(
            {
                "name": "nora",
                "token": token(NORA),
                "assistant": {"instructions": "You are Nora, a cheerful librarian."},
                "share": ["message.received"],
            },
            {
                "name": "bram",
                "token": token(BRAM),
                "assistant": {"instructions": "You are Bram, a gruff sailor.", "api": "chat"},
            },
        )
        stack.start()
        yield stack


@pytest_asyncio.fixture
async def fleet(running: Stack) -> AsyncIterator[Stack]:
    await running.until_running("nora", "bram")
    yield running


async def test_a_fact_told_before_a_kill_is_answered_after_it(fleet: Stack):
    async with fleet.sandbox() as telegram:
        await telegram.say(NORA, 501, "My name is Ada.", {"id": 501, "first_name": "Ada"})
        assert await telegram.wait_for_reply(NORA, 501, wait=30)
        before = fleet.bot("nora")
        os.kill(before["pid"], signal.SIGKILL)
        await eventually(lambda: fleet.bot("nora")["pid"] not in (None, before["pid"]), "nora is back")
        events = await telegram.events(NORA)
        last = max(event.seq for event in events)
        await telegram.say(NORA, 501, "What is my name?", {"id": 501, "first_name": "Ada"})
        reply = await telegram.wait_for_reply(NORA, 501, after=last, wait=30)
        assert reply is not None
        assert "Ada" in reply.text


async def test_markdown_becomes_entities_and_long_answers_are_split(fleet: Stack):
    async with fleet.sandbox() as telegram:
        await telegram.say(BRAM, 502, "Give me a long answer, please.", {"id": 502, "first_name": "Max"})

        async def parts():
            messages = [m for m in await telegram.transcript(BRAM, 502) if m.get("from", {}).get("is_bot")]
            return messages if len(messages) >= 2 else None

        messages = await eventually(parts, "a long answer in parts")
        assert all(len(message["text"].encode("utf-16-le")) // 2 <= 4096 for message in messages)
        kinds = {entity["type"] for message in messages for entity in message.get("entities", ())}
        assert "bold" in kinds
        calls = await telegram.calls(method="sendChatAction", bot_id=BRAM)
        assert calls, "somebody who waits sees that the bot is typing"


async def test_every_message_is_in_the_database_under_its_bot(fleet: Stack):
    async with fleet.sandbox() as telegram:
        await telegram.say(NORA, 503, "What is the weather like?", {"id": 503, "first_name": "Eva"})
        assert await telegram.wait_for_reply(NORA, 503, wait=30)
        said = [m["text"] for m in await telegram.transcript(NORA, 503)]

    async def stored():
        rows = await fleet.rows("SELECT bot_id, direction, text FROM messages WHERE chat_id = 503 ORDER BY message_id")
        return rows if len(rows) == 2 else None

    rows = await eventually(stored, "both messages stored")
    assert [(row["bot_id"], row["direction"], row["text"]) for row in rows] == [
        (NORA, "in", said[0]),
        (NORA, "out", said[1]),
    ]
    left = await fleet.rows("SELECT count(*) FROM inbox WHERE state <> 'done' AND bot_id = $1", NORA)
    assert left[0][0] == 0


async def test_a_bots_role_sees_only_its_own_rows(fleet: Stack):
    async with fleet.sandbox() as telegram:
        for bot in (NORA, BRAM):
            await telegram.say(bot, 504, "Hello.", {"id": 504, "first_name": "Ann"})
            assert await telegram.wait_for_reply(bot, 504, wait=30)
    connection = await asyncpg.connect(fleet.database_url)
    try:
        everything = {row[0] for row in await connection.fetch("SELECT DISTINCT bot_id FROM messages")}
        assert {NORA, BRAM} <= everything
        await connection.execute(f"SET SESSION AUTHORIZATION bot_{NORA}")
        for table in ("messages", "inbox", "sends", "outbox", "users", "conversations", "bots"):
            mine = {row[0] for row in await connection.fetch(f"SELECT DISTINCT bot_id FROM {table}")}
            assert mine == {NORA}, table
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("INSERT INTO users (bot_id, user_id, first_name) VALUES ($1, 1, 'x')", BRAM)
    finally:
        await connection.close()


async def test_events_of_the_run_are_in_the_logs_and_carry_the_trace_of_their_update(fleet: Stack):
    async with fleet.sandbox() as telegram:
        await telegram.say(BRAM, 505, "Hello there.", {"id": 505, "first_name": "Kim"})
        assert await telegram.wait_for_reply(BRAM, 505, wait=30)

    async def trace():
        rows = await fleet.rows("SELECT trace_id FROM messages WHERE chat_id = 505 AND direction = 'out'")
        return rows[0]["trace_id"] if rows else None

    trace_id = await eventually(trace, "the answer stored")

    def types() -> set[str] | None:
        lines = [json.loads(line) for line in fleet.cli("events", "--json").stdout.splitlines()]
        found = {
            line["type"] for line in lines if line["source"] == f"bot:{BRAM}" and line["correlation_id"] == trace_id
        }
        return found if {"message.received", "message.sent"} <= found else None

    await eventually(types, "both events routed")
    bots = {json.loads(line)["type"] for line in fleet.cli("events", "--json", "--log", "bot").stdout.splitlines()}
    assert {"bot.started", "bot.ready"} <= bots
    lines = [line for line in (fleet.data / "logs" / "bram.log").read_text().splitlines() if trace_id in line]
    assert len(lines) >= 3, "received, completion, sent"


async def test_no_token_or_key_is_in_any_log(fleet: Stack):
    text = fleet.logs()
    for secret in (
        token(NORA),
        token(NORA).split(":")[1],
        token(BRAM).split(":")[1],
        fleet.environment["OPENAI_API_KEY"],
    ):
        assert secret not in text
    for pid in {fleet.daemon_pid, *(bot["pid"] for bot in fleet.status()["bots"])}:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(PermissionError):
                content = Path(f"/proc/{pid}/{name}").read_bytes()
                assert token(NORA).split(":")[1].encode() not in content


async def test_metrics_name_every_bot(fleet: Stack):
    body = fleet.metrics()
    for name in ("nora", "bram"):
        assert re.search(rf'botctl_bot_up{{[^}}]*bot="{name}"[^}}]*}} 1\.0', body), body[:2000]


async def test_processes_have_titles_and_ps_shows_who_is_who(fleet: Stack):
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for title in ("botctl: supervisor", "botctl: forkserver", "botctl: control", "botctl: bot nora"):
        assert title in listing


async def test_stop_and_start_of_one_bot(fleet: Stack):
    fleet.cli("stop", "bram")
    await eventually(lambda: fleet.bot("bram")["state"] == "stopped", "bram stopped")
    async with fleet.sandbox() as telegram:
        before = max((event.seq for event in await telegram.events(BRAM)), default=0)
        await telegram.say(BRAM, 506, "Are you there?", {"id": 506, "first_name": "Lu"})
        fleet.cli("restart", "bram")
        reply = await telegram.wait_for_reply(BRAM, 506, after=before, wait=30)
        assert reply is not None, "what was written while it was stopped is answered"
    await fleet.until_running("bram")


async def test_exit_codes(fleet: Stack):
    assert fleet.cli("restart", "nobody", check=False).returncode == 4
    assert fleet.cli("status", "--data-dir", str(fleet.folder / "empty"), check=False).returncode == 3
    assert fleet.cli("frobnicate", check=False).returncode == 2
    again = fleet.cli("start", "--fleet", str(fleet.fleet_file), "--detach", check=False)
    assert again.returncode == 1
    assert str(fleet.daemon_pid) in again.stderr
    assert "Traceback" not in again.stderr
