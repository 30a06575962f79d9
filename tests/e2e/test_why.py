"""`botctl why` over the whole way: a process that dies, the supervisor's file, `control`, the database, the answer."""

from __future__ import annotations

import os
import signal

import pytest

from support.stack import Stack, eventually, process_gone, token

pytestmark = pytest.mark.e2e

BOT, OTHER = 7600000001, 7600000002

HANDLERS = """
import time
from telegram.ext import CommandHandler

def register(app, bot):
    async def hang(update, context):
        stand_still()
    app.add_handler(CommandHandler("hang", hang))

def stand_still():
    time.sleep(600)
"""


def why(stack: Stack, *arguments: str, code: int = 0) -> str:
    done = stack.cli("why", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


async def test_each_death_is_explained_also_when_nobody_is_left_to_ask(stack: Stack):
    (stack.folder / "why_handlers.py").write_text(HANDLERS)
    stack.write_fleet(
        {"name": "support", "token": token(BOT), "handlers": "why_handlers:register"},
        {"name": "broken", "token": token(OTHER), "handlers": "no_such_module:register"},
        restart={"heartbeat_timeout": "2s"},
    )
    stack.start()
    await stack.until_running("support")
    assert "support has not died since" in why(stack, "support")
    why(stack, "nobody", code=4)
    broken = await eventually(lambda: "quarantined" in (told := why(stack, "broken")) and told, "broken is quarantined")
    assert "No module named 'no_such_module'" in broken
    assert "Then: botctl release broken" in broken

    os.kill(stack.bot("support")["pid"], signal.SIGKILL)
    await eventually(lambda: "signal · signal 9" in why(stack, "support"), "the kill is told of")
    await stack.until_running("support")
    async with stack.sandbox() as telegram:
        await telegram.say(BOT, 1, "/hang", {"id": 1, "first_name": "A"})
        await eventually(lambda: "  hang · " in why(stack, "support"), "the hang is told of")
    hang = why(stack, "support", "--last", "1")
    assert "in stand_still" in hang
    assert "no heartbeat for 2 s" in hang

    # The bots die with the daemon; nobody records how, but what came before is known.
    daemon = stack.daemon_pid
    os.kill(daemon, signal.SIGKILL)
    await eventually(lambda: process_gone(daemon), "the daemon is gone")
    told = why(stack, "support")
    assert told.startswith(f"How support is now can't be told: no daemon runs on {stack.data}.")
    assert "in stand_still" in told
    assert "signal · signal 9" in told
    why(stack, "nobody", code=4)

    stack.start()
    told = await eventually(
        lambda: "without recording how" in (told := why(stack, "support")) and told, "the end nobody saw is told of"
    )
    assert "in stand_still" in told
    await stack.until_running("support")
    still_open = "SELECT run_id FROM bot_runs WHERE ended_at IS NULL AND bot_id = $1"

    async def only_the_new_one() -> bool:
        return len(await stack.rows(still_open, BOT)) == 1

    await eventually(only_the_new_one, "no other run is open")
