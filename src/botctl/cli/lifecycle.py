"""start, stop, restart, release, reload, apply: what changes a daemon or its fleet."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botctl.cli.client import ApiClient, ControlAwayError, bot_path
from botctl.cli.note import DaemonNote, process_started, require_note
from botctl.cli.shared import BotName, DataDir, FleetFile, data_folder, say
from botctl.errors import BotctlError, UsageError

if TYPE_CHECKING:
    from botctl.fleet import Fleet

_POLL = 0.05

SETTLE = 10.0
"""Seconds for which a wave of a rolling restart is watched, at most, unless the operator says otherwise."""


def start(
    fleet: FleetFile = None,
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once the daemon serves its commands.")] = False,
    fail_with_fleet: Annotated[
        bool, typer.Option("--fail-with-fleet", help="End with exit code 1 once every wanted bot is quarantined.")
    ] = False,
) -> None:
    """Start the daemon with its fleet."""
    from botctl.cli import starting
    from botctl.settings.load import load_settings
    from botctl.settings.places import DataFolder

    settings = load_settings(fleet=fleet, data_dir=data_dir, fail_with_fleet=fail_with_fleet or None)
    wanted, fleet_env = starting.read_fleet(settings.fleet, os.environ)
    folder = DataFolder(settings.data_dir)
    starting.refuse_second(folder)
    payload = starting.payload_of(settings, wanted, fleet_env, foreground=not detach)
    if not detach:
        starting.become_daemon(payload)
    say(f"starting in {folder.root}")
    process, words = starting.spawn_daemon(payload)
    try:
        note = starting.wait_until_serving(process, words, folder)
    except KeyboardInterrupt:
        process.terminate()
        raise
    say(f"the daemon serves (pid {note.pid}); `botctl status --data-dir {folder.root}` shows its bots")
    _warn_of_unkept(wanted, note)


def stop(
    name: BotName = None,
    data_dir: DataDir = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the daemon's end.", min=0)] = 90.0,
) -> None:
    """Stop one bot; or, without a name, the daemon and all its bots.

    A daemon that is started anew starts the bot again; to keep it stopped, write enabled: false into the fleet file.
    """
    folder = data_folder(data_dir)
    note = require_note(folder)
    client = ApiClient(note)
    if name is not None:
        answer = client.post(bot_path(name, "stop"))
        if _bot(client, name).get("shut_away"):
            say(answer["message"])
            return
        _await_bot(client, name, lambda bot: bot["pid"] is None, timeout, "stopped", wanted=False)
        return
    try:
        client.post("/v1/shutdown", timeout=3.0)
    except ControlAwayError:
        _signal(note)
    deadline = time.monotonic() + timeout
    while process_started(note.pid) == note.process_started:
        if time.monotonic() >= deadline:
            raise BotctlError(
                f"the daemon (pid {note.pid}) has not ended after {timeout:g} s",
                hint="Bots drain first. Wait longer with --timeout, or look into `botctl logs daemon`.",
            )
        time.sleep(_POLL)
    say(f"the daemon (pid {note.pid}) has ended")


def restart(
    name: BotName = None,
    data_dir: DataDir = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the one bot.", min=0)] = 90.0,
    wave: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Roll through the fleet, so many bots at once: 5% or 3.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="With --wave: roll back when bots answer less.")] = False,
    settle: Annotated[
        float | None,
        typer.Option(help="With --watch: seconds to watch each wave, at most.", min=0.1, max=3600, show_default="10"),
    ] = None,
    abort: Annotated[bool, typer.Option("--abort", help="Take back the rolling restart that is under way.")] = False,
) -> None:
    """Restart one bot, or all; with --wave, one after another. Also starts a bot that was stopped."""
    if wave is not None or watch or settle is not None or abort:
        from botctl.cli import rolling

        rolling.check(name, wave=wave, watch=watch, settle=settle, abort=abort)
        client = ApiClient.of(data_folder(data_dir))
        if abort:
            rolling.abort(client)
        else:
            rolling.restart(client, str(wave), watch=watch, settle=settle or SETTLE)
        return
    client = ApiClient.of(data_folder(data_dir))
    if name is None:
        client.post("/v1/restart")
        say("every bot is being restarted")
        return
    path = bot_path(name, "restart")
    before = _bot(client, name)
    client.post(path)
    _await_bot(
        client,
        name,
        lambda bot: bot["pid"] != before.get("pid") and bot["state"] in ("running", "degraded"),
        timeout,
        "restarted",
        wanted=True,
    )


def release(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A bot.")] = None,
    data_dir: DataDir = None,
    all_: Annotated[bool, typer.Option("--all", help="All whose failures put them into quarantine.")] = False,
) -> None:
    """Let a quarantined bot start again; with --all every one that was not shut away on purpose."""
    if all_ == (name is not None):
        raise UsageError("release a bot by its NAME, or with --all every one that failed")
    client = ApiClient.of(data_folder(data_dir))
    if name is None:
        say(client.post("/v1/release")["message"])
        return
    path = bot_path(name, "release")
    state = _bot(client, name).get("state")
    client.post(path)
    say(f"{name} is released" if state == "quarantined" else f"{name} was not quarantined: it is {state}")


def quarantine(name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")], data_dir: DataDir = None) -> None:
    """Shut a bot away at once: process, database, Redis; until it is released by its name, also after a restart."""
    say(ApiClient.of(data_folder(data_dir)).post(bot_path(name, "quarantine"))["message"])


def reload(data_dir: DataDir = None) -> None:
    """Make the daemon read its fleet file again, with the variables it was given."""
    _tell(ApiClient.of(data_folder(data_dir)).post("/v1/reload"))


def apply(
    fleet: FleetFile = None,
    data_dir: DataDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Make the fleet file, with this shell's variables, the wanted fleet."""
    from botctl.cli import starting
    from botctl.settings.load import load_settings

    settings = load_settings(fleet=fleet, data_dir=data_dir)
    wanted, fleet_env = starting.read_fleet(settings.fleet, os.environ)
    client = ApiClient.of(data_folder(settings.data_dir))
    body = {
        "fleet": json.loads(wanted.model_dump_json()),
        "fleet_path": str(settings.fleet),
        "fleet_env": fleet_env,
        "dry_run": dry_run,
    }
    applied = client.post("/v1/apply", body)
    _warn_of_unkept(wanted, client.note)
    _tell(applied)


def _warn_of_unkept(fleet: Fleet, note: DaemonNote) -> None:
    """Say which limits this daemon can't keep."""
    from botctl.cli.unkept import HINT, unkept, wishes

    if note.controllers is not None and (lost := unkept(wishes(fleet), note.controllers)):
        say(f"warning: {lost}\nhint: {HINT}")


def _bot(client: ApiClient, name: str) -> dict[str, Any]:
    bots = client.get("/v1/status", timeout=10.0)["bots"]
    return next((bot for bot in bots if bot["name"] == name), {})


def _await_bot(
    client: ApiClient, name: str, done: Callable[[dict[str, Any]], bool], timeout: float, word: str, *, wanted: bool
) -> None:
    """Wait until it is so; `wanted` is what the command has made of it. Raises BotctlError when it goes elsewhere."""
    deadline = time.monotonic() + timeout
    while True:
        bot = _bot(client, name)
        if not bot:
            raise BotctlError(f"{name} is not {word}: it has left the fleet meanwhile")
        if done(bot):
            break
        if bot["state"] == "quarantined":
            raise BotctlError(f"{name} is quarantined: {bot['reason']}", hint=f"See `botctl why {name}`.")
        if bot.get("wanted", wanted) is not wanted:
            raise BotctlError(f"{name} is not {word}: overtaken by another command; it is {_state(bot)}")
        if time.monotonic() >= deadline:
            raise BotctlError(
                f"{name} is not {word} after {timeout:g} s; it is {_state(bot)}",
                hint=f"See `botctl why {name}` and `botctl logs {name}`.",
            )
        time.sleep(_POLL)
    say(f"{name} is {word}")


def _state(bot: dict[str, Any]) -> str:
    return f"{bot['state']}: {bot['reason']}" if bot.get("reason") else str(bot["state"])


def _tell(applied: dict[str, Any]) -> None:
    would = "would be " if applied["dry_run"] else ""
    for key in ("added", "removed", "changed"):
        for name in applied[key]:
            print(f"{name}: {would}{key}")
    for name in applied.get("groups", ()):
        print(f"group {name}: {would}changed")
    unchanged = len(applied["unchanged"])
    print(f"{unchanged} {'bot' if unchanged == 1 else 'bots'} unchanged")
    if applied["failed"]:
        faults = "\n".join(f"{name}: {why}" for name, why in applied["failed"].items())
        raise BotctlError(f"not every bot got its credentials; they are tried again:\n{faults}")


def _signal(note: DaemonNote) -> None:
    if process_started(note.pid) != note.process_started:
        return
    try:
        os.kill(note.pid, signal.SIGTERM)
    except PermissionError as error:
        raise BotctlError(f"you may not signal the daemon (pid {note.pid})", hint="Run this as its user.") from error
    except ProcessLookupError:
        return
