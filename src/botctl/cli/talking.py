"""chat: talk to a bot from the terminal, through the sandbox that stands in for Telegram."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import DataDir, data_folder, say
from botctl.errors import NoSuchBotError, RefusedError

if TYPE_CHECKING:
    from botctl.sandbox.client import SandboxClient

REPLY_WAIT = 60.0
"""Seconds to wait for an answer when the words come from a pipe."""


def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")],
    data_dir: DataDir = None,
    chat_id: Annotated[int, typer.Option("--chat", help="The chat, and so the conversation.", min=1)] = 1001,
    first_name: Annotated[str, typer.Option("--as", help="Who you are to the bot.")] = "Operator",
) -> None:
    """Talk to a bot of a fleet that uses the sandbox; Ctrl-D ends."""
    client = ApiClient.of(data_folder(data_dir))
    bots = {bot["name"]: int(bot["bot_id"]) for bot in client.get("/v1/status", timeout=10.0)["bots"]}
    if name not in bots:
        raise NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {', '.join(bots)}.")
    import asyncio

    asyncio.run(_chat(client.note.telegram_base_url, name, bots[name], chat_id, first_name))


async def _chat(base_url: str, name: str, bot_id: int, chat_id: int, first_name: str) -> None:
    from botctl.sandbox.client import SandboxClient, SandboxError

    async with SandboxClient(base_url) as sandbox:
        try:
            served = await sandbox.health()
        except SandboxError:
            served = False
        if not served:
            raise RefusedError(
                f"this fleet talks to {base_url}, which is no sandbox",
                hint="Write to the bot in Telegram itself; chat is for the demo, or with BOTCTL_TELEGRAM_BASE_URL.",
            )
        await _converse(sandbox, name, bot_id, chat_id, first_name)


async def _converse(sandbox: SandboxClient, name: str, bot_id: int, chat_id: int, first_name: str) -> None:
    import asyncio

    seen = max((event.seq for event in await sandbox.events(bot_id)), default=0)
    user = {"id": chat_id, "first_name": first_name}
    interactive = sys.stdin.isatty()
    if interactive:
        say(f"you talk to {name}; Ctrl-D ends")
        showing = asyncio.create_task(_show(sandbox, name, bot_id, chat_id, seen))
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                if text := line.strip():
                    await sandbox.say(bot_id, chat_id, text, user)
        finally:
            showing.cancel()
        return
    for line in sys.stdin:
        if not (text := line.strip()):
            continue
        await sandbox.say(bot_id, chat_id, text, user)
        print(f"you: {text}", flush=True)
        reply = await sandbox.wait_for_reply(bot_id, chat_id, seen, REPLY_WAIT)
        if reply is None:
            from botctl.errors import BotctlError

            raise BotctlError(f"{name} has not answered within {REPLY_WAIT:g} s", hint="See `botctl status`.")
        seen = reply.seq
        print(f"{name}: {reply.text}", flush=True)


async def _show(sandbox: SandboxClient, name: str, bot_id: int, chat_id: int, seen: int) -> None:
    while True:
        for event in await sandbox.events(bot_id, seen, 25.0):
            seen = event.seq
            if event.chat_id != chat_id:
                continue
            if event.type == "send":
                print(f"{name}: {event.text}", flush=True)
            elif event.type == "edit":
                print(f"{name} (edited): {event.text}", flush=True)
            elif event.type == "chat_action":
                print(f"{name} is typing…", flush=True)
