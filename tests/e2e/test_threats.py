"""Threat detection with the whole stack: who reaches for another bot's rows is shut away, and why is told."""

from __future__ import annotations

import json
import os
import time

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

USER = {"id": 1, "first_name": "A"}
NORA, MAX = 7410000001, 7410000002

HANDLERS = f"""
import socket, struct, threading, time
from sqlalchemy import text
from telegram.ext import MessageHandler, filters

def hog(port):
    words = b"user\\0bot_{NORA}\\0database\\0botctl\\0\\0"
    held = []
    while True:
        while len(held) < 300:
            try:
                one = socket.create_connection(("127.0.0.1", port), 1)
                one.sendall(struct.pack(">ii", len(words) + 8, 196608) + words)
                held.append(one)
            except OSError:
                break
        time.sleep(0.05)

def register(app, bot):
    async def answer(update, context):
        if update.message.text == "reach":
            async with bot.engine.begin() as connection:
                await connection.execute(text("INSERT INTO users (bot_id, user_id) VALUES ({MAX}, 1)"))
        if update.message.text == "hog":
            async with bot.engine.connect() as connection:
                port = int((await connection.execute(text("SHOW port"))).scalar_one())
            for _ in range(3):
                threading.Thread(target=hog, args=(port,), daemon=True).start()
        await update.message.reply_text("echo " + update.message.text)

    app.add_handler(MessageHandler(filters.TEXT, answer))
"""


def furnish(stack: Stack) -> None:
    """Two bots with these handlers."""
    (stack.folder / "reaching.py").write_text(HANDLERS)
    handlers = {"handlers": "reaching:register", "assistant": None}
    stack.write_fleet(
        {"name": "nora", "token": token(NORA), **handlers}, {"name": "max", "token": token(MAX), **handlers}
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only bots with uids of their own are told apart")
async def test_a_bot_that_takes_every_connection_without_logging_in_is_shut_away_and_others_go_on(stack: Stack):
    furnish(stack)
    async with stack.sandbox() as telegram:
        for number in (NORA, MAX):
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running("nora", "max")
        began = time.monotonic()
        await telegram.say(NORA, 1, "hog", USER)
        await eventually(lambda: stack.bot("nora")["state"] == "quarantined", "nora is shut away", timeout=20)
        took = time.monotonic() - began
        assert stack.bot("nora")["reason"].startswith("connection_hog: a process of its uid holds")
        await telegram.say(MAX, 1, "hello", USER)
        assert await telegram.wait_for_reply(MAX, 1, wait=20)
        assert (await stack.rows("SELECT 1 AS one"))[0]["one"] == 1
        assert took < 10
        audited = stack.cli("audit", "search", "--action", "threat.detected", "--json").stdout
        assert "connection_hog" in audited


async def test_a_handler_that_reaches_for_another_bots_rows_is_shut_away_and_why_is_told(stack: Stack):
    furnish(stack)
    async with stack.sandbox() as telegram:
        for number in (NORA, MAX):
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running("nora", "max")
        await telegram.say(NORA, 1, "hello", USER)
        assert await telegram.wait_for_reply(NORA, 1, wait=30)

        began = time.monotonic()
        await telegram.say(NORA, 1, "reach", USER)
        await eventually(lambda: stack.bot("nora")["state"] == "quarantined", "nora is shut away", timeout=10)
        assert time.monotonic() - began < 5
        nora = stack.bot("nora")
        assert (nora["pid"], nora["shut_away"]) == (None, True)
        assert nora["reason"].startswith("cross_bot_sql: reached for what is not its own")

        assert "cross_bot_sql" in stack.cli("why", "nora").stdout
        refused = f"bot_{NORA}@botctl ERROR 42501: new row violates row-level security policy"
        assert refused in stack.cli("logs", "postgres", "-n", "1000").stdout
        await eventually(lambda: "threat.detected" in stack.cli("events", "--log", "system").stdout, "it is published")
        audited = stack.cli("audit", "search", "--action", "threat.detected", "--json").stdout
        assert "cross_bot_sql" in audited
        await telegram.say(MAX, 1, "hello", USER)
        assert await telegram.wait_for_reply(MAX, 1, wait=30)
        assert json.loads(stack.cli("status", "--json").stdout)["daemon"]["problems"] == []
