"""What all commands share: options, the terminal, and how an error ends a command. Light."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from botctl.errors import BotctlError, RefusedError
from botctl.observability.redaction import Redactor
from botctl.settings.places import DataFolder, find_data_dir

if TYPE_CHECKING:
    from rich.console import Console


def _folder(text: str) -> Path:
    """Not the working folder, where a variable was empty."""
    if not text:
        raise typer.BadParameter("it is empty; name a folder, or leave it out.")
    return Path(text)


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=_folder,
        metavar="PATH",
        help="The daemon's data folder (BOTCTL_DATA_DIR).",
        show_default=False,
    ),
]
FleetFile = Annotated[
    Path | None, typer.Option("--fleet", help="The fleet file (BOTCTL_FLEET).", show_default="fleet.yaml")
]
BotName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A bot; all of them if left out.")]


PLAIN_WIDTH = 4000
"""Columns when the output is no terminal: nothing is wrapped or cut for whoever reads it."""

PATIENCE = 2.0
"""Seconds that a command waits for `control` without a word."""


class Commands(TyperGroup):
    """A group whose commands end with a sentence and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BotctlError as error:
            fail(error)
        except PermissionError as error:
            fail(
                RefusedError(
                    f"you may not use {error.filename}: {error.strerror}",
                    hint="Run this as the user that started the daemon.",
                )
            )
        except BrokenPipeError:
            sys.stderr.close()  # Whoever read our output has had enough.
            raise typer.Exit(0) from None


def fail(error: BotctlError) -> NoReturn:
    """Say what happened and what to do, and end with the error's exit code."""
    redact = Redactor().redact  # a token in the place of a path, a password in an address
    sys.stdout.flush()
    sys.stderr.write(f"botctl: error: {redact(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {redact(error.hint)}\n")
    raise typer.Exit(int(error.exit_code)) from None


def data_folder(flag: Path | None) -> DataFolder:
    """The data folder that a command is about."""
    return DataFolder(find_data_dir(flag))


def say(text: str) -> None:
    """A line for the operator, on standard error so that output can be piped."""
    sys.stderr.write(f"botctl: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def still_waiting() -> Iterator[None]:
    """Say so once, if what is done in here waits for `control` longer than `PATIENCE`."""
    word = threading.Timer(PATIENCE, say, ("control does not answer yet; waiting …",))
    word.daemon = True
    word.start()
    try:
        yield
    finally:
        word.cancel()


def console() -> Console:
    """Standard output as Rich writes it: plain when it is no terminal or NO_COLOR is set."""
    from rich.console import Console

    plain = not sys.stdout.isatty()
    return Console(
        no_color=True if plain else None, width=PLAIN_WIDTH if plain else None, highlight=False, markup=False
    )
