"""dead-letters: what was given up after all attempts, or refused by the bus; to look at, try again, or drop."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from botctl.cli.audit import moment
from botctl.cli.client import ApiClient
from botctl.cli.shared import Commands, DataDir, console, data_folder, say, still_waiting
from botctl.errors import ExitCode, UsageError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="What was given up after all attempts: list it, show it, try it again, drop it.",
)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
Bot = Annotated[str | None, typer.Option("--bot", metavar="NAME", help="One bot, by name or id.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` shows them.", show_default=False)]

KINDS = ("update", "event", "job", "op", "bus")
_TIMEOUT = 60.0


@app.command("list")
def list_(
    data_dir: DataDir = None,
    bot: Bot = None,
    since: Annotated[str | None, typer.Option(help="A time, or an age such as 30m, 2h, 7d.")] = None,
    kind: Annotated[str | None, typer.Option(help="update, event, job, op, or bus: what the bus has refused.")] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Those that were dropped, instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the latest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List them, the newest first."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind!r} is none of {', '.join(KINDS)}")
    narrowed = dropped or any(one is not None for one in (bot, since, kind))
    query: dict[str, Any] = {"limit": limit, "dropped": str(dropped).lower()}
    query |= {"bot": bot} if bot is not None else {}
    query |= {"kind": kind} if kind is not None else {}
    query |= {"since": moment(since, time.time(), "--since")} if since is not None else {}
    with still_waiting():
        document = ApiClient.of(data_folder(data_dir)).get("/v1/dead-letters", query, timeout=_TIMEOUT)
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from botctl.cli.dead_letters_view import letters_lines
    from botctl.cli.lines import styled
    from botctl.control.tracing.views import DeadLettersBody

    body = DeadLettersBody.model_validate(document)
    if body.letters:
        screen = console()
        for line in styled(letters_lines(body, screen.width, time.time())):
            screen.print(line, soft_wrap=True)
        sys.stdout.flush()
    for note in body.notes:
        say(note)
    if not body.letters:
        say("nothing was dropped" if dropped else "there are none" if not body.waiting else "none of that kind")
    elif more := _more(len(body.letters), limit, sum(body.waiting.values()) if not narrowed else None):
        say(more)


def _more(shown: int, limit: int, there_are: int | None) -> str:
    """What is to be said of those that aren't shown; `there_are` is None where nobody has counted."""
    if shown < limit or there_are == shown:
        return ""
    if there_are is None:
        return f"these are the latest {shown}; there may be more (--limit)"
    return f"these are the latest {shown} of {there_are} (--limit)"


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    data_dir: DataDir = None,
    text: Annotated[bool, typer.Option("--text", help="Show texts; that is noted in the audit log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one with all that is kept: attempts, traceback, what it has sent, and what came."""
    query = {"id": letter, "text": str(text).lower()}
    with still_waiting():
        document = ApiClient.of(data_folder(data_dir)).get("/v1/dead-letters/one", query, timeout=_TIMEOUT)
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from botctl.cli.dead_letters_view import letter_lines
    from botctl.cli.lines import styled
    from botctl.control.tracing.views import DeadLetterBody

    screen = console()
    for line in styled(letter_lines(DeadLetterBody.model_validate(document), screen.width, time.time(), text=text)):
        screen.print(line, soft_wrap=True)


@app.command()
def retry(
    ids: Ids = None,
    data_dir: DataDir = None,
    bot: Bot = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the bot.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have them handled again, at their places: what they have sent already is not sent twice."""
    _do("retry", "to be handled again", data_dir, ids, bot, everything, as_json=as_json)


@app.command()
def drop(
    ids: Ids = None,
    data_dir: DataDir = None,
    bot: Bot = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the bot.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set them aside for good. Their rows are kept (`list --dropped`); those of the bus are deleted."""
    _check(ids, bot, everything)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to be asked", hint="Say --yes if they are to be dropped.")
        typer.confirm(f"Drop {f'all of {bot}' if everything else ', '.join(ids or [])}?", abort=True)
    _do("drop", "dropped", data_dir, ids, bot, everything, as_json=as_json)


def _check(ids: list[str] | None, bot: str | None, everything: bool) -> None:
    if bool(ids) == everything:
        raise UsageError("name dead letters, or --bot NAME --all", hint="`botctl dead-letters list` shows their ids.")
    if everything and bot is None:
        raise UsageError("--all is of one bot", hint="Name it with --bot.")


def _do(
    verb: str,
    words: str,
    data_dir: Any,
    ids: list[str] | None,
    bot: str | None,
    everything: bool,
    *,
    as_json: bool,
) -> None:
    _check(ids, bot, everything)
    request = {"ids": ids or [], **({"bot": bot} if bot is not None else {})}
    with still_waiting():
        answer = ApiClient.of(data_folder(data_dir)).post(f"/v1/dead-letters/{verb}", request, timeout=_TIMEOUT)
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for letter in answer["done"]:
            print(letter)
        sys.stdout.flush()
        if answer["done"]:
            say(f"{len(answer['done'])} {words}")
        elif not answer["left"]:
            say("there are none")
        for letter, why in answer["left"].items():
            say(f"{letter}: {why}")
    if answer["left"]:
        raise typer.Exit(int(ExitCode.FAILED))
