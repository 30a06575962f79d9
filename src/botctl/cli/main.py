"""The command `botctl`: its commands, and nothing else. Each imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from botctl.cli import (
    audit,
    bots,
    database,
    dead_letters,
    demo,
    doctor,
    events,
    lifecycle,
    looking,
    sandbox,
    secrets,
    sending,
    talking,
    trace,
    why,
)
from botctl.cli.chaos import command as chaos
from botctl.cli.shared import Commands

app = typer.Typer(
    name="botctl",
    cls=Commands,
    help="Run a fleet of Telegram AI bots: one supervised process per bot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from botctl import __version__

        print(f"botctl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run a fleet of Telegram AI bots: one supervised process per bot."""


app.command()(demo.demo)
app.command()(lifecycle.start)
app.command()(lifecycle.stop)
app.command()(lifecycle.restart)
app.command()(lifecycle.reload)
app.command()(lifecycle.apply)
app.command()(lifecycle.release)
app.command()(lifecycle.quarantine)
app.command()(looking.status)
app.command()(looking.logs)
app.command()(why.why)
app.command()(trace.trace)
app.command()(talking.chat)
app.command()(sending.send)
app.command()(doctor.doctor)
app.command()(chaos.chaos)
app.add_typer(database.app, name="db")
app.add_typer(secrets.app, name="secrets")
app.add_typer(bots.app, name="bot")
app.add_typer(audit.app, name="audit")
app.add_typer(events.app, name="events")
app.add_typer(dead_letters.app, name="dead-letters")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    sandbox.sandbox
)


def run() -> None:
    """Entry of the console script."""
    app(prog_name="botctl")
