"""chat: talk to a bot from the terminal, through the sandbox that stands in for Telegram."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import DataDir, data_folder, say
from botctl.errors import BotctlError, NoSuchBotError, RefusedError

if TYPE_CHECKING:
    from botctl.sandbox.client import BotEvent, SandboxClient

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
        buttons: list[tuple[int, str]] = []
        showing = asyncio.create_task(_show(sandbox, name, bot_id, chat_id, seen, buttons))
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        # A terminal gives whole lines, so that this read doesn't wait, and Ctrl-C is never kept waiting by it.
        loop.add_reader(sys.stdin.fileno(), lambda: lines.put_nowait(os.read(sys.stdin.fileno(), 65536)))
        try:
            while True:
                typed = asyncio.ensure_future(lines.get())
                await asyncio.wait({typed, showing}, return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    raise BotctlError(f"the sandbox is gone: {showing.exception()}", hint="Is the demo still up?")
                if not (typed_line := typed.result()):
                    return
                text = typed_line.decode("utf-8", "replace").strip()
                if text.startswith("!") and text[1:].isdigit() and 0 < int(text[1:]) <= len(buttons):
                    message_id, data = buttons[int(text[1:]) - 1]
                    await sandbox.press(bot_id, chat_id, message_id, data, user)
                elif text:
                    await sandbox.say(bot_id, chat_id, text, user)
        finally:
            loop.remove_reader(sys.stdin.fileno())
            showing.cancel()
    for line in sys.stdin:
        if not (text := line.strip()):
            continue
        await sandbox.say(bot_id, chat_id, text, user)
        print(f"you: {text}", flush=True)
        reply = await sandbox.wait_for_reply(bot_id, chat_id, seen, REPLY_WAIT)
        if reply is None:
            raise BotctlError(f"{name} has not answered within {REPLY_WAIT:g} s", hint="See `botctl status`.")
        seen = reply.seq
        print(f"{name}: {reply.text}", flush=True)


async def _show(
    sandbox: SandboxClient, name: str, bot_id: int, chat_id: int, seen: int, buttons: list[tuple[int, str]]
) -> None:
    """Print what the bot does; `buttons` are those of its latest message that has any: (message_id, data)."""
    while True:
        for event in await sandbox.events(bot_id, seen, 25.0):
            seen = event.seq
            if event.chat_id != chat_id:
                continue
            if event.type == "send":
                print(f"{name}: {event.text}", flush=True)
                _offer(event, buttons)
            elif event.type == "edit":
                print(f"{name} (edited): {event.text}", flush=True)
            elif event.type == "chat_action":
                print(f"{name} is typing…", flush=True)


def _offer(event: BotEvent, buttons: list[tuple[int, str]]) -> None:
    """List the buttons under a message, with what to type to press one."""
    message = event.raw.get("message", event.raw)
    keyboard = (message.get("reply_markup") or {}).get("inline_keyboard") or []
    found = [button for row in keyboard for button in row if "callback_data" in button]
    if not found:
        return
    buttons[:] = [(event.message_id or 0, button["callback_data"]) for button in found]
    for number, button in enumerate(found, start=1):
        print(f"  [{button['text']}]  type !{number} to press it", flush=True)
