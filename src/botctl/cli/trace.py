"""trace: the way of one message through all of it, from Telegram to Telegram and across bots. Changes nothing."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import DataDir, console, data_folder, say, still_waiting
from botctl.errors import BotctlError, UsageError

_TRACE = re.compile(r"[0-9a-f]{16}")
_TIMEOUT = 60.0


def trace(
    asked: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]",
            help="Id of an update, trace id, event:<id>, job:<name>:<due> or op:<id>.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    bot: Annotated[str | None, typer.Option("--bot", metavar="NAME", help="Its bot, by name or id.")] = None,
    chat: Annotated[int | None, typer.Option("--chat", help="List the latest messages of this chat.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many of a chat.")] = 20,
    trace_id: Annotated[str | None, typer.Option("--trace", help="All bots' part in a trace; 16 digits.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Show texts; that is noted in the audit log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Follow one message: when it came, how long it waited, what was tried, answered, sent and published."""
    wanted = [one for one in (asked, trace_id, None if chat is None else str(chat)) if one is not None]
    if len(wanted) != 1:
        raise UsageError(
            "name one thing to trace: an update, a trace or a chat",
            hint="botctl trace 779194871 --bot nora; botctl trace --chat 42 --bot nora; botctl trace 863a0daaba5d89c2",
        )
    if trace_id is not None and _TRACE.fullmatch(trace_id) is None:
        raise UsageError(f"{trace_id!r} is no trace id", hint="They are 16 hexadecimal digits; `botctl logs` has them.")
    if chat is not None and bot is None:
        raise UsageError("a chat is traced in one bot", hint="Name it with --bot.")
    client = ApiClient.of(data_folder(data_dir))
    query: dict[str, Any] = {"text": str(text).lower()}
    if bot is not None:
        query["bot"] = bot
    path = "/v1/trace"
    if chat is not None:
        path, query = "/v1/trace/chat", query | {"chat_id": chat, "limit": limit}
    else:
        query["asked"] = asked or trace_id
    with still_waiting():
        document = client.get(path, query, timeout=_TIMEOUT)
    if as_json:
        import json

        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _show(document, chat is not None)
    if chat is not None and not document["messages"]:
        raise BotctlError(f"bot {document['bot']} has nothing of chat {chat}")


def _show(document: dict[str, Any], of_chat: bool) -> None:
    from botctl.cli.lines import styled
    from botctl.cli.trace_view import chat_lines, trace_lines
    from botctl.control.tracing.views import ChatBody, TraceBody

    screen = console()
    if not of_chat:
        lines = trace_lines(TraceBody.model_validate(document), screen.width)
    else:
        body = ChatBody.model_validate(document)
        lines = chat_lines(body, screen.width)
    for line in styled(lines):
        screen.print(line, soft_wrap=True)
    if of_chat and lines:
        sys.stdout.flush()
        say(f"one of them in full: botctl trace ID --bot {body.bot}")
