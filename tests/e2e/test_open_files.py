"""A bot whose handlers leak files says so, and is not taken for one whose servers are away."""

from __future__ import annotations

from typing import Any

import pytest

from support.stack import Stack, eventually, token

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BOT = 7430000001
PERSON = {"id": 1, "first_name": "Ada"}
LIMIT = 80

HANDLERS = """
import os
from telegram.ext import CommandHandler

HELD = []

def register(app, bot):
    app.add_handler(CommandHandler("leak", leak))
    app.add_handler(CommandHandler("free", free))

async def leak(update, context):
    while True:
        try:
            HELD.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return

async def free(update, context):
    while HELD:
        os.close(HELD.pop())
"""


async def test_a_bot_without_open_files_says_so_and_knows_its_memory(stack: Stack) -> None:
    (stack.folder / "leaking.py").write_text(HANDLERS)
    stack.write_fleet(
        {"name": "one", "token": token(BOT), "handlers": "leaking:register", "limits": {"open_files": LIMIT}}
    )
    stack.start()
    await stack.until_running("one")
    before = stack.bot("one")
    async with stack.sandbox() as telegram:
        await telegram.say(BOT, 1, "/leak", PERSON)

        def told() -> dict[str, Any] | None:
            bot = stack.bot("one")
            return bot if "open files" in bot["reason"] else None

        bot = await eventually(told, "it says that it is out of files", 40)
        assert bot["reason"].startswith(f"out of open files: its limit of {LIMIT} is reached"), bot
        assert "redis" not in bot["reason"]
        why = stack.cli("why", "one").stdout
        assert "raise limits.open_files" in why.replace("\n", " "), why
        assert "Look at Redis" not in why

        def measured_again() -> bool:
            now = stack.bot("one")
            return bool(now["memory_mb"]) and now["memory_mb"] != before["memory_mb"]

        await eventually(measured_again, "its memory is measured meanwhile", 40)
        assert stack.bot("one")["memory_mb"] > 0
        await telegram.say(BOT, 1, "/free", PERSON)
    await eventually(lambda: stack.bot("one")["state"] == "running", "it is well again", 60)
    assert stack.bot("one")["pid"] == before["pid"]
