"""send: have a bot say something, as the operator; it is kept until the bot has said it."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from botctl.cli.client import ApiClient, bot_path
from botctl.cli.shared import DataDir, data_folder, say
from botctl.errors import BotctlError, UsageError

_LOOK_EVERY = 0.2
_OPEN = ("waiting", "sending")


def send(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - reads it from standard input.")],
    chat: Annotated[
        list[str], typer.Option("--chat", metavar="ID", help="A chat's id, or @name of a channel; may be repeated.")
    ],
    data_dir: DataDir = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is sent; prints the messages' ids.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 60.0,
    parse_mode: Annotated[str | None, typer.Option("--parse-mode", help="HTML or MarkdownV2.")] = None,
    silent: Annotated[bool, typer.Option("--silent", help="Without a sound.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: id, chat and state of each message.")] = False,
) -> None:
    """Have a bot send a message to a chat, through its journal and its flood control, also while it is down.

    Prints the operation's id (op:…), or with --wait the message's; behind the chat's when there are several.
    """
    if parse_mode not in (None, "HTML", "MarkdownV2"):
        raise UsageError(f"--parse-mode {parse_mode!r} is neither HTML nor MarkdownV2")
    words = sys.stdin.read() if text == "-" else text
    body = {"chats": [_chat(one) for one in chat], "text": words, "parse_mode": parse_mode, "silent": silent}
    client = ApiClient.of(data_folder(data_dir))
    asked = client.post(bot_path(name, "send"), body)
    if asked["bot_state"] == "unknown":
        say(f"the supervisor doesn't answer; {name} sends this when it runs")
    elif not asked["runs"]:
        say(f"{name} is {asked['bot_state']}; it sends this when it is back")
    ids = [one["id"] for one in asked["sends"]]
    if not wait:
        if as_json:
            print(json.dumps(asked, ensure_ascii=False))
            return
        for one in asked["sends"]:
            print(f"op:{one['id']}" if len(ids) == 1 else f"{one['chat']} op:{one['id']}")
        say(f"kept; `botctl trace op:{ids[0]} --bot {name}` tells more")
        return
    chats = {one["id"]: one["chat"] for one in asked["sends"]}
    sends = [{**one, "chat": chats[one["id"]]} for one in _outcome(client, name, ids, time.monotonic() + timeout)]
    if as_json:
        print(json.dumps({**asked, "sends": sends}, ensure_ascii=False))
    _tell(name, sends, quiet=as_json)


def _outcome(client: ApiClient, name: str, ids: list[str], deadline: float) -> list[dict[str, Any]]:
    """What came of them once all have an end, or by the deadline."""
    path = f"{bot_path(name, 'sent')}?{urlencode([('id', one) for one in ids])}"
    while True:
        sends: list[dict[str, Any]] = client.get(path)["sends"]
        if all(one["state"] not in _OPEN for one in sends) or time.monotonic() >= deadline:
            return sends
        time.sleep(_LOOK_EVERY)


def _tell(name: str, sends: list[dict[str, Any]], *, quiet: bool) -> None:
    """Print ids of messages, unless `quiet`; raises BotctlError when not all were sent."""
    failed = 0
    for one in sends:
        if one["state"] == "sent":
            if not quiet:
                print(one["message_id"] if len(sends) == 1 else f"{one['chat']} {one['message_id']}")
            continue
        failed += 1
        why = f": {one['error']}" if one["error"] else ""
        words = {
            "waiting": "is not sent yet; it will be when the bot gets to it",
            "sending": "is being sent",
            "refused": "was refused by Telegram",
            "unsent": "was given up",
        }
        say(f"what is for {one['chat']} {words.get(one['state'], one['state'])}{why}")
    if failed:
        raise BotctlError(
            f"{failed} of {len(sends)} not sent", hint=f"botctl trace op:{sends[0]['id']} --bot {name} tells more."
        )


def _chat(text: str) -> int | str:
    if text.startswith("@"):
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--chat {text!r} is no id of a chat, nor @name") from None
