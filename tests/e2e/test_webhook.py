"""Bots that are sent their updates, in a whole daemon: nothing is lost, whatever is killed in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import Counter

import httpx
import pytest

from botctl.sandbox.client import SandboxClient
from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

BOT, OTHER = 7510000001, 7510000002
CHATS = range(801, 806)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def open_ingress(stack: Stack) -> None:
    port = free_port()
    stack.environment["BOTCTL_WEBHOOK_LISTEN"] = f"127.0.0.1:{port}"
    stack.environment["BOTCTL_WEBHOOK_PUBLIC_URL"] = f"http://127.0.0.1:{port}/telegram"


async def webhook_of(stack: Stack, bot_id: int) -> str:
    url = f"{stack.urls['telegram'].rstrip('/')}/bot{token(bot_id)}/getWebhookInfo"
    async with httpx.AsyncClient() as client:
        return str((await client.get(url)).json()["result"]["url"])


async def replies(telegram: SandboxClient, bot_id: int, chat: int) -> list[str]:
    found = await telegram.transcript(bot_id, chat)
    return [message["text"] for message in found if message.get("from", {}).get("is_bot")]


ECHO = """
from telegram.ext import MessageHandler, filters

async def echo(update, context):
    await update.effective_message.reply_text(f"echo {update.effective_message.text}")

def register(app, bot):
    app.add_handler(MessageHandler(filters.TEXT, echo))
"""


def echoing(updates: str) -> dict[str, object]:
    """A bot that echoes as fast as it can."""
    return {
        "name": "echo",
        "token": token(BOT),
        "updates": updates,
        "assistant": None,
        "handlers": "echoing:register",
        "limits": {"chat_sends_per_second": 0, "sends_per_second": 0},
    }


class Talk:
    """What users have said to a bot that echoes, and what has come back."""

    def __init__(self, stack: Stack, telegram: SandboxClient, bot_id: int) -> None:
        self.stack = stack
        self.telegram = telegram
        self.bot_id = bot_id
        self.said: dict[int, list[str]] = {chat: [] for chat in CHATS}
        self._count = 0

    async def say(self, times: int) -> None:
        """So many messages in each chat."""
        for _ in range(times):
            for chat in CHATS:
                self._count += 1
                self.said[chat].append(f"number {self._count}")
                await self.telegram.say(self.bot_id, chat, f"number {self._count}", {"id": chat, "first_name": "Ada"})

    async def until_answered(self) -> None:
        """Every message has its echo, in order; what was sent twice has been counted as uncertain."""
        for chat, said in self.said.items():
            wanted = [f"echo {text}" for text in said]

            async def answered(chat: int = chat, wanted: list[str] = wanted) -> bool:
                return list(dict.fromkeys(await replies(self.telegram, self.bot_id, chat))) == wanted

            try:
                await eventually(answered, f"all of chat {chat} answered in order", 90)
            except AssertionError:
                print(chat, wanted, await replies(self.telegram, self.bot_id, chat), self.stack.logs()[-6000:])
                raise
        found = [await replies(self.telegram, self.bot_id, chat) for chat in CHATS]
        twice = sum(count - 1 for texts in found for count in Counter(texts).values())
        (uncertain,) = await self.stack.rows(
            "SELECT coalesce(sum(uncertain), 0)::int FROM sends WHERE bot_id = $1", self.bot_id
        )
        assert twice <= uncertain[0]


@pytest.mark.timeout(300)
async def test_what_is_sent_while_anything_is_down_is_answered_in_order(stack: Stack) -> None:
    open_ingress(stack)
    (stack.folder / "echoing.py").write_text(ECHO)
    stack.write_fleet(echoing("webhook"), {"name": "polls", "token": token(OTHER)})
    stack.start()
    await stack.until_running("echo", "polls")
    async with stack.sandbox() as telegram:
        await telegram.set_limits(webhook_pace=0.02)
        assert f"/telegram/{BOT}?v=" in await webhook_of(stack, BOT)
        assert not await webhook_of(stack, OTHER)
        talk = Talk(stack, telegram, BOT)
        await talk.say(3)
        await talk.until_answered()

        bot = stack.bot("echo")
        os.kill(bot["pid"], signal.SIGKILL)
        await talk.say(2)
        await talk.until_answered()

        os.kill(await stack.service_pid("control"), signal.SIGKILL)
        await talk.say(2)
        await talk.until_answered()

        os.kill(await stack.service_pid("postgres"), signal.SIGINT)
        await talk.say(2)
        await talk.until_answered()
        assert not (await telegram.calls(bot_id=BOT, method="getUpdates"))


@pytest.mark.timeout(300)
async def test_the_ways_are_changed_under_load_and_operators_have_their_say(stack: Stack) -> None:
    open_ingress(stack)
    (stack.folder / "echoing.py").write_text(ECHO)
    polls = {"name": "polls", "token": token(OTHER)}
    stack.write_fleet(echoing("polling"), polls)
    stack.start()
    await stack.until_running("echo", "polls")
    async with stack.sandbox() as telegram:
        await telegram.set_limits(webhook_pace=0.02)
        talk = Talk(stack, telegram, BOT)
        await talk.say(1)
        for way in ("webhook", "polling", "webhook"):
            saying = asyncio.create_task(talk.say(6))
            stack.write_fleet(echoing(way), polls)
            await asyncio.to_thread(stack.cli, "apply", "--fleet", str(stack.fleet_file))
            # In the middle of the change, or right before or after it.
            if (pid := (await asyncio.to_thread(stack.bot, "echo"))["pid"]) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await saying

            async def changed(wanted: bool = way == "webhook") -> bool:
                return bool(await webhook_of(stack, BOT)) is wanted

            await eventually(changed, f"the bot's way is {way}")
            await talk.until_answered()
        (handled,) = await stack.rows("SELECT count(*) FROM inbox WHERE bot_id = $1 AND state = 'done'", BOT)
        assert handled[0] == sum(len(said) for said in talk.said.values())

        before, pid = await webhook_of(stack, BOT), stack.bot("echo")["pid"]
        stack.cli("secrets", "rotate-webhook", "echo")

        async def renewed() -> bool:
            return await webhook_of(stack, BOT) != before

        await eventually(renewed, "Telegram has the new secret")
        assert stack.bot("echo")["pid"] == pid
        await talk.say(1)
        await talk.until_answered()
        body = stack.metrics()
        assert 'botctl_webhook_stored_total{bot="echo"} ' in body
        assert 'botctl_webhook_refused_total{why="away"}' in body
        found = stack.cli("doctor", "--fleet", str(stack.fleet_file), check=False).stdout
        assert "leads to the ingress, as seen from here" in found
        assert "webhook of echo" in found

        done = stack.cli("send", "echo", "--chat", "801", "--wait", "from the *operator*")
        sent = (await telegram.transcript(BOT, 801))[-1]
        assert (sent["text"], str(sent["message_id"])) == ("from the *operator*", done.stdout.strip())
        stack.cli("stop", "echo")
        done = stack.cli("send", "echo", "--chat", "801", "--chat", "802", "while you were out")
        assert "echo is stopped; it sends this when it is back" in done.stderr
        await talk.say(2)
        stack.cli("restart", "echo")
        for chat in (801, 802):

            async def said(chat: int = chat) -> bool:
                return "while you were out" in await replies(telegram, BOT, chat)

            await eventually(said, "it says so when it is back")
        refused = stack.cli("send", "echo", "--chat", "999999", "--wait", "to a stranger", check=False)
        assert (refused.returncode, "was refused by Telegram" in refused.stderr) == (1, True), refused.stderr
        entries = await stack.rows("SELECT after::text FROM audit_log WHERE action = 'command.send'")
        assert len(entries) == 3
        assert not any("out" in entry[0] or "stranger" in entry[0] for entry in entries)

        stack.write_fleet(polls)
        stack.cli("apply", "--fleet", str(stack.fleet_file))

        async def taken_away() -> bool:
            return not await webhook_of(stack, BOT)

        await eventually(taken_away, "the webhook of a bot that has left is taken away")
