"""`botctl bot …`: what is done to one bot beside starting and stopping it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from botctl.cli.client import ApiClient, bot_path
from botctl.cli.shared import Commands, DataDir, data_folder, say
from botctl.errors import NoSuchBotError, UsageError

app = typer.Typer(cls=Commands, no_args_is_help=True, help="One bot's affairs.")

_LONGEST = 4096


@app.command("rotate-token")
def rotate_token(name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")], data_dir: DataDir = None) -> None:
    """Give a bot a new token, read from standard input or asked for; it is checked, kept sealed, and used at once."""
    client = ApiClient.of(data_folder(data_dir))
    path = bot_path(name, "token")
    if all(bot["name"] != name for bot in client.get("/v1/status", timeout=10.0)["bots"]):
        raise NoSuchBotError(f"no bot is called {name!r}")  # before anybody is asked for a token
    token = _read(name)
    say(client.post(path, {"token": token})["message"])


def _read(name: str) -> str:
    """Never an argument: arguments stand in /proc and in the shell's history."""
    if sys.stdin.isatty():
        import getpass

        token = getpass.getpass(f"New token of {name} (not shown): ", stream=sys.stderr)
    else:
        token = sys.stdin.readline(_LONGEST)
    if not token.strip():
        raise UsageError("no token was given", hint=f"For example: botctl bot rotate-token {name} < token.txt")
    return token.strip()
