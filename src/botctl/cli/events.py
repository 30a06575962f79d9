"""`botctl events`: the fleet's events, who outside reads them, giving them again. Without a command: shows them."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from botctl.cli import looking
from botctl.cli.audit import moment, span
from botctl.cli.client import ApiClient
from botctl.cli.shared import Commands, DataDir, data_folder, say
from botctl.errors import BotctlError, ExitCode, UsageError

app = typer.Typer(
    cls=Commands, invoke_without_command=True, help="The fleet's events: show them, let others read, give them again."
)

_ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
PASSWORD_VARIABLE = "BOTCTL_EVENTS_PASSWORD"
"""Where the printed example finds the password."""


@app.callback()
def show(
    context: typer.Context,
    data_dir: DataDir = None,
    log: Annotated[str, typer.Option("--log", help="bot, system, user, or all.")] = "all",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C; begins with new events.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", help="Begin after this entry; 0 for all.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Show the events of the fleet: what the logs have kept, or what comes."""
    if context.invoked_subcommand is None:
        looking.events(data_dir, log, follow, after, as_json)


@app.command()
def grant(
    name: Annotated[str, typer.Argument(help="What the program is called: lower-case letters, digits, - and _.")],
    log: Annotated[list[str], typer.Option("--log", help="bot, system or user; may be given again.")],
    data_dir: DataDir = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Share the work of one group with other grants.", show_default="NAME")
    ] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with all that the logs have.")] = False,
    since: Annotated[str | None, typer.Option(help="Begin at a time, or an age such as 30m, 12h, 7d.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="Write the password there (mode 0600) instead of printing it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a program outside the fleet read logs, with a Redis user and a consumer group of its own."""
    import hashlib
    import secrets

    if wrong := set(log) - {"bot", "system", "user"}:
        raise UsageError(f"{wrong.pop()!r} is no log", hint="There are bot, system and user.")
    if from_start and since is not None:
        raise UsageError("--from-start and --since exclude each other")
    password = secrets.token_urlsafe(32)
    file = _opened(password_file) if password_file is not None else None
    request = {
        "name": name,
        "logs": log,
        "group": group,
        "password_sha256": hashlib.sha256(password.encode()).hexdigest(),
        "start": "beginning" if from_start else "since" if since is not None else "end",
        "since": moment(since, time.time(), "--since"),
    }
    try:
        made = ApiClient.of(data_folder(data_dir)).post("/v1/events/grant", request)
    except BotctlError:
        if file is not None and password_file is not None:
            os.close(file)
            password_file.unlink(missing_ok=True)
        raise
    if file is not None:
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(f"{password}\n")
    if as_json:
        print(json.dumps(made | ({} if file is not None else {"password": password}), indent=2))
        return
    _tell_grant(made)
    if file is not None:
        print(f"password    in {password_file}")
    else:
        print(f"password    {password}")
        say("the password is shown this once and kept nowhere")
    print(f"\n{example(made)}")
    if not made["made"]:
        say("Redis is away: the grant works when it is back")


@app.command()
def grants(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the programs outside that may read logs, and how far behind they are."""
    found = ApiClient.of(data_folder(data_dir)).get("/v1/events/grants")["grants"]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for number, one in enumerate(found):
        print("\n" * (number > 0), end="")
        _tell_grant(one)
        for reader in one["readers"]:
            print(f"log {reader['log']:8}{_behind(reader)}")
        if one["kept_off"]:
            print(f"kept off    {one['kept_off']}")
    if not found:
        say("nobody outside reads a log; `botctl events grant NAME --log bot` lets somebody")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="A grant's name.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a grant back: its connections end at once."""
    answer = ApiClient.of(data_folder(data_dir)).post("/v1/events/revoke", {"name": name})
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        say(answer["message"])


@app.command()
def replay(
    to: Annotated[str, typer.Option("--to", help="A bot, group:NAME, or grant:NAME.")],
    data_dir: DataDir = None,
    since: Annotated[str | None, typer.Option(help="From a time on, or an age such as 30m, 12h, 7d.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="From this entry on; 0 for all.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to a time or an age, or this entry.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this type or pattern only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Give events of the logs once more to one consumer. A bot gets what it subscribes to."""
    if (since is None) is (first is None):
        raise UsageError("say where to begin", hint="--since 2h, or --from with an entry of `botctl events --json`.")
    request: dict[str, Any] = {"to": to, "type": type_, "dry_run": dry_run}
    request |= replay_span(since, first, until, time.time())
    last: dict[str, Any] = {}
    for line in ApiClient.of(data_folder(data_dir)).lines("/v1/events/replay", {}, body=request):
        last = json.loads(line)
        if as_json:
            print(line.decode().rstrip(), flush=True)
    if last.get("error"):
        raise BotctlError(last["error"], hint=last["hint"] or None)
    if not last.get("done"):
        raise BotctlError("the daemon has not ended its answer", hint="`botctl logs control` says more.")
    if not as_json:
        _tell_replay(last)


def replay_span(since: str | None, first: str | None, until: str | None, now: float) -> dict[str, Any]:
    """What of the logs a replay gives, as the API is asked for it. Raises UsageError."""
    asked: dict[str, Any] = {}
    if first is not None and first != "0":
        if not _ENTRY.fullmatch(first):
            raise UsageError(
                f"--from {first!r} is no entry",
                hint="They look like 1718000000000-0; `botctl events --json` has them, and 0 is the beginning.",
            )
        asked["first"] = first
    if until is not None and _ENTRY.fullmatch(until):
        asked["last"], until = until, None
    begin, end = span(since, until, now)
    return asked | {"since": begin, "until": end}


@app.command()
def lag(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how far the readers of the bus are behind; exit code 1 if one may lose events."""
    view = ApiClient.of(data_folder(data_dir)).get("/v1/events/lag")
    if as_json:
        print(json.dumps(view, indent=2))
    else:
        for reader in view["readers"]:
            name = f"{reader['reader']} {reader['log']}".rstrip()
            print(f"{name:32}{_behind(reader)}")
        logs = ", ".join(f"{log} {count}" for log, count in view["logs"].items())
        say(f"the logs keep {logs or 'nobody knows how many'} events; dead letters: {_shown(view['dead_letters'])}")
        for warning in view["warnings"]:
            say(f"warning: {warning}")
    if view["warnings"]:
        raise typer.Exit(int(ExitCode.FAILED))


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the AsyncAPI 3.0 document of all events, in YAML or JSON. Needs no daemon."""
    from botctl.bus.event_types.asyncapi import document, to_yaml

    print(json.dumps(document(), indent=2) if as_json else to_yaml(document()), end="\n" if as_json else "")


def example(made: dict[str, Any]) -> str:
    """A program in Python that reads as this grantee; needs redis-py, and the password in a variable."""
    return f"""\
# pip install redis; export {PASSWORD_VARIABLE}=…
import os
import redis

client = redis.Redis.from_url(
    {made["url"]!r}, username={made["user"]!r}, password=os.environ[{PASSWORD_VARIABLE!r}],
    protocol=2, decode_responses=True, socket_timeout=15,
)
group, consumer, logs = {made["group"]!r}, "reader-1", {made["streams"]!r}
new = False  # first what this consumer was given before and has not acknowledged
while True:
    reply = client.xreadgroup(group, consumer, dict.fromkeys(logs, ">" if new else "0"), count=100, block=5000)
    new = new or not any(entries for _, entries in reply)
    for stream, entries in reply:
        for entry, fields in entries:
            print(stream, entry, fields.get("e") if fields else "cut off before it was read", flush=True)
            client.xack(stream, group, entry)  # once it is worked off: until then it comes again
"""


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}", hint="It must not be there already.") from error


def _tell_grant(made: dict[str, Any]) -> None:
    lines = {
        "grant": f"{made['name']}, of the logs {', '.join(made['logs'])}",
        "address": made["url"],
        "user": made["user"],
        "streams": " ".join(made["streams"]),
        "group": made["group"],
    }
    for what, text in lines.items():
        print(f"{what:12}{text}")


def _tell_replay(last: dict[str, Any]) -> None:
    for log, count in last["moved"].items():
        verb = "would be read" if last["dry_run"] else "are read"
        print(f"log {log}: {_shown(count)} events {verb} once more")
    if last["moved"]:
        return
    for type_, count in sorted(last["by_type"].items()):
        print(f"{count:8}  {type_}")
    verb = "would be given" if last["dry_run"] else f"were given, marked {last['mark']},"
    say(f"{last['given']} of {last['looked_at']} events {verb} to {last['to']}")
    if last["left_out"]:
        say(f"{last['left_out']} were left out: too large with their mark")


def _behind(reader: dict[str, Any]) -> str:
    if reader["unread"] is None:
        return "not known: it has no stream or group now"
    text = f"{reader['unread']} unread, {reader['pending']} not acknowledged"
    if reader["seconds"]:
        text += f", the oldest {reader['seconds']:.0f} s"
    return f"{text}; {reader['dropped']} lost" if reader["dropped"] else text


def _shown(count: int | None) -> str:
    return "an unknown number of" if count is None else str(count)
