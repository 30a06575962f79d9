"""status, logs, events: what shows how things are."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import DataDir, console, data_folder, say, still_waiting

if TYPE_CHECKING:
    from botctl.control.views import StatusBody

WATCH_EVERY = 1.0

_TIMEOUT = 10.0

_ENTRY = re.compile(r"0|\$|\d+(-\d+)?")


def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the daemon and its bots."""
    client = ApiClient.of(data_folder(data_dir))

    def ask() -> dict[str, Any]:
        with still_waiting():
            return client.get("/v1/status", timeout=_TIMEOUT)

    if as_json:
        import json

        while True:
            print(json.dumps(ask(), indent=None if watch else 2), flush=True)
            if not watch:
                return
            time.sleep(WATCH_EVERY)
    from botctl.cli.status_view import table
    from botctl.control.views import StatusBody

    def look() -> StatusBody:
        return StatusBody.model_validate(ask())

    screen = console()
    if not watch:
        screen.print(table(look(), time.time()))
        return
    from rich.live import Live

    with Live(table(look(), time.time()), console=screen, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_EVERY)
            live.update(table(look(), time.time()), refresh=True)


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A bot, control, daemon, postgres, valkey, forkserver or setup; all if left out."
        ),
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
    if name is not None and not files[0].exists():
        say(f"{name} has written nothing")
    for file in files:
        for line in last_lines(file, lines):
            _write_line(file.stem if prefix else None, line)
    if name == "postgres":
        from botctl.observability.postgres_log import waiting

        # What nobody has passed on: when the server is all that runs, as it does when it can't start.
        for line in deque(waiting(folder.root / "postgres"), maxlen=max(lines, 1)):
            _write_line(None, line)
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
    if after is not None and _ENTRY.fullmatch(after) is None:
        told = f"{after!r} is no id of an entry; `events --json` shows them as `entry`, and 0 means all."
        raise typer.BadParameter(told, param_hint="--after")
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


def _write_line(name: str | None, line: str) -> None:
    sys.stdout.write(f"{name} | {line}\n" if name is not None else f"{line}\n")
