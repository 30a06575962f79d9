"""status, logs, events: what shows how things are."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import DataDir, console, data_folder
from botctl.cli.words import ago

if TYPE_CHECKING:
    from rich.console import RenderableType

    from botctl.control.views import BotView, StatusBody

WATCH_EVERY = 1.0


def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the daemon and its bots."""
    client = ApiClient.of(data_folder(data_dir))
    if as_json:
        import json

        while True:
            print(json.dumps(client.get("/v1/status", timeout=10.0), indent=None if watch else 2), flush=True)
            if not watch:
                return
            time.sleep(WATCH_EVERY)
    from botctl.control.views import StatusBody

    def look() -> StatusBody:
        return StatusBody.model_validate(client.get("/v1/status", timeout=10.0))

    screen = console()
    if not watch:
        screen.print(_table(look()))
        return
    from rich.live import Live

    with Live(_table(look()), console=screen, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_EVERY)
            live.update(_table(look()), refresh=True)


def logs(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A bot, control or daemon; all if left out.")
    ] = None,
    data_dir: DataDir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines to begin with.", min=0)] = 20,
) -> None:
    """Show what bots, control and the daemon have written."""
    from botctl.cli.tail import follow_logs, last_lines, log_files

    folder = data_folder(data_dir)
    files = log_files(folder, name)
    prefix = name is None
    for file in files:
        for line in last_lines(file, lines):
            _write_line(file.stem if prefix else None, line)
    sys.stdout.flush()
    if follow:
        for file, line in follow_logs(folder, name, files):
            _write_line(file.stem if prefix else None, line)
            sys.stdout.flush()


def events(
    data_dir: DataDir = None,
    log: Annotated[str, typer.Option("--log", help="bot, system, user, or all.")] = "all",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C; begins with new events.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", help="Begin after this entry; 0 for all.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Show the events of the fleet: the last seven days, or what comes."""
    if log not in ("all", "bot", "system", "user"):
        raise typer.BadParameter(f"{log!r} is no log; there are bot, system, user, and all.", param_hint="--log")
    start = after if after is not None else ("$" if follow else "0")
    client = ApiClient.of(data_folder(data_dir))
    query = {"log": log, "after": start, "follow": str(follow).lower()}
    for line in client.lines("/v1/events", query):
        text = line.decode().rstrip()
        print(text if as_json else _event_line(text), flush=follow)


def _event_line(text: str) -> str:
    import json
    from datetime import datetime

    event: dict[str, Any] = json.loads(text)
    at = datetime.fromtimestamp(event["occurred_at"]).astimezone().isoformat(" ", "milliseconds")
    data = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in event["data"].items())
    return f"{at} {event['log']:6} {event['type']:22} {event['source']:16} {data}".rstrip()


def _table(body: StatusBody) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    daemon = body.daemon
    head = f"botctl {daemon.version}  {daemon.state}  pid {daemon.pid}  up {_span(daemon.uptime_s)}"
    servers = "  ".join(f"{one.name} {one.state} (pid {one.pid or '-'})" for one in body.services)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("BOT", "ID", "STATE", "PID", "UP", "RESTARTS", "MEMORY", "INBOX", "OUTBOX", "NOTE"):
        table.add_column(
            column, justify="left" if column in ("BOT", "STATE", "NOTE") else "right", no_wrap=column != "NOTE"
        )
    for bot in body.bots:
        note = bot.reason or _last_failure(bot)
        table.add_row(
            bot.name,
            str(bot.bot_id),
            Text(bot.state, style=_COLOURS.get(bot.state, "")),
            str(bot.pid or "-"),
            _span(bot.uptime_s),
            str(bot.restarts),
            f"{bot.memory_mb:.0f} MB" if bot.memory_mb is not None else "-",
            _number(bot.inbox_depth),
            _number(bot.outbox_depth),
            Text(" ".join(note.split())[:500]),
        )
    rows: list[RenderableType] = [Text(head, style="bold")]
    if servers:
        rows.append(Text(servers))
    rows += [Text(f"! {problem}", style="yellow") for problem in daemon.problems]
    return Group(*rows, Text(""), table)


def _last_failure(bot: BotView) -> str:
    """`last failure: hang (signal 9), 3 min ago`."""
    if bot.last_failure is None:
        return ""
    exit = f" ({bot.last_exit})" if bot.last_exit else ""
    at = f", {ago(bot.last_failure_at, time.time())}" if bot.last_failure_at is not None else ""
    return f"last failure: {bot.last_failure}{exit}{at}"


_COLOURS = {
    "running": "green",
    "starting": "cyan",
    "degraded": "yellow",
    "paused": "yellow",
    "backoff": "red",
    "failed": "red",
    "quarantined": "bold red",
    "stopped": "dim",
    "configured": "dim",
}


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def _write_line(name: str | None, line: str) -> None:
    sys.stdout.write(f"{name} | {line}\n" if name is not None else f"{line}\n")
