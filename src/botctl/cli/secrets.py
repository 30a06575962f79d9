"""`botctl secrets`: which keys there are, and new ones in their place. Shows no key but one the operator must keep."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import Commands, DataDir, console, data_folder, say
from botctl.errors import NoSuchBotError

if TYPE_CHECKING:
    from botctl.control.views import SecretsBody

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Keys: how old they are, and new ones.")

_TIMEOUT = 600.0
"""Seconds for a rotation: it rewraps a thousand data keys in a second or two."""


@app.command()
def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Show where the master key is kept, and the data key and token of each bot."""
    body = ApiClient.of(data_folder(data_dir)).get("/v1/secrets")
    if as_json:
        import json

        print(json.dumps(body, indent=2))
        return
    from botctl.control.views import SecretsBody

    _show(SecretsBody.model_validate(body), time.time())


@app.command("rotate-master")
def rotate_master(data_dir: DataDir = None) -> None:
    """Make a new master key and rewrap every data key with it, or finish a rotation that was interrupted."""
    folder = data_folder(data_dir)
    client = ApiClient.of(folder)
    done = client.post("/v1/secrets/rotate-master", {"keys": _kept_elsewhere(folder.root)}, timeout=_TIMEOUT)
    if done["entry"]:
        print(done["entry"])
        say(done["todo"])
        return
    many = f"{done['rewrapped']} data key{'' if done['rewrapped'] == 1 else 's'}"
    say(f"master key version {done['version']} is in use; {many} rewrapped")
    if done["todo"]:
        say(done["todo"])


@app.command("rotate-bot")
def rotate_bot(name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")], data_dir: DataDir = None) -> None:
    """Make a new data key for one bot; what it has sealed before stays readable."""
    say(ApiClient.of(data_folder(data_dir)).post("/v1/secrets/rotate-bot", {"bot": name})["message"])


@app.command()
def reseal(name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")], data_dir: DataDir = None) -> None:
    """Seal anew, with a bot's newest data key, what older ones have sealed; then forget those. May be interrupted.

    For a key that may have leaked: rotate-bot first. It works with the administrator's login, and with the master key.
    """
    from botctl.cli.resealing import reseal as work

    folder = data_folder(data_dir)
    bots = ApiClient.of(folder).get("/v1/secrets")["bots"]
    found = next((bot for bot in bots if bot["name"] == name), None)
    if found is None:
        raise NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {', '.join(bot['name'] for bot in bots)}.")
    work(name, found["bot_id"], folder.root, data_dir)


@app.command("rotate-webhook")
def rotate_webhook(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A bot with `updates: webhook`.")],
    data_dir: DataDir = None,
) -> None:
    """Give one bot a new webhook secret, without a gap; it is done daily by itself, with its passwords."""
    say(ApiClient.of(data_folder(data_dir)).post("/v1/secrets/rotate-webhook", {"bot": name})["message"])


@app.command("rotate-credentials")
def rotate_credentials(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A bot; all without.")] = "", data_dir: DataDir = None
) -> None:
    """Give bots new passwords for the database and Redis, while they run. It is done daily by itself."""
    client = ApiClient.of(data_folder(data_dir))
    say(client.post("/v1/secrets/rotate-credentials", {"bot": name}, timeout=_TIMEOUT)["message"])


def _kept_elsewhere(root: Any) -> str:
    """Master keys that this shell has from a credential or from the environment; the data folder's are `control`'s."""
    from botctl.security import master_keys

    found = master_keys.find(os.environ, root)
    return found.keys.text() if found is not None and found.source is not master_keys.Source.FILE else ""


def _show(body: SecretsBody, now: float) -> None:
    from rich.table import Table

    from botctl.cli.words import ago

    screen = console()
    held = f", held with {', '.join(str(one) for one in body.held[1:])}" if len(body.held) > 1 else ""
    version = f"version {body.version}{held}" if body.version is not None else "none"
    screen.print(f"master key: {version} ({body.place})")
    if body.to_rewrap:
        screen.print(
            f"! a rotation is under way: {body.to_rewrap} of {body.data_keys} data keys are wrapped by another version;"
            " `botctl secrets rotate-master` goes on with it, and names those that can't be unwrapped"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("BOT", "ID", "DATA KEY", "SINCE", "KEYS", "MESSAGES", "TOKEN"):
        table.add_column(column, no_wrap=True)
    for bot in body.bots:
        token = f"rotated {ago(bot.token_since, now)}" if bot.token_since is not None else bot.token
        table.add_row(
            bot.name,
            str(bot.bot_id),
            str(bot.key or "-"),
            ago(bot.key_since, now) if bot.key_since is not None else "-",
            str(bot.keys),
            "sealed" if bot.encrypts_messages else "clear",
            token,
        )
    screen.print(table)
