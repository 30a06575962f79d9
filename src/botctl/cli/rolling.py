"""`botctl restart --wave`: begins a rolling restart, tells how it goes, and ends with its outcome.

The rollout runs in `control`: ending the command does not end it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from botctl.cli.client import ApiClient, ControlAwayError
from botctl.cli.note import DaemonNote, live_note
from botctl.cli.shared import say
from botctl.control.rollouts.rules import WaveSize
from botctl.errors import BotctlError, UsageError
from botctl.settings.places import DataFolder

_PATH = "/v1/rollout"

_WORD = re.compile(r"[\w-]+")

_NAMED = 3
"""Bots whose commands stand in a hint."""


def check(name: str | None, *, wave: str | None, watch: bool, settle: float | None, abort: bool) -> None:
    """Raises UsageError for options that don't go together."""
    if abort and (wave is not None or watch or settle is not None or name is not None):
        raise UsageError("--abort goes alone")
    if abort:
        return
    if settle is not None and not watch:
        raise UsageError("--settle needs --wave and --watch", hint="For example: botctl restart --wave 5% --watch")
    if wave is None:
        raise UsageError("--watch needs --wave", hint="For example: botctl restart --wave 5% --watch")
    if name is not None:
        raise UsageError("--wave is for the whole fleet; a single bot is restarted without it")
    WaveSize.parse(wave)


def restart(client: ApiClient, wave: str, *, watch: bool, settle: float) -> None:
    """Begin one and follow it. Raises BotctlError when it was rolled back."""
    begun = client.post(_PATH, {"wave": wave, "watch": watch, "settle": settle})
    bots, waves = begun["bots"], begun["waves"]
    say(f"{bots} {'bot' if bots == 1 else 'bots'} in {waves} {'wave' if waves == 1 else 'waves'}")
    outcome, last = _follow(client)
    if outcome != "done":
        raise BotctlError(last, hint=_where_to_look(client, last))


def abort(client: ApiClient) -> None:
    """Take it back and follow that. Raises BotctlError when it could not be taken back."""
    client.post(f"{_PATH}/abort")
    outcome, last = _follow(client)
    if outcome == "failed":
        raise BotctlError(last, hint=_where_to_look(client, last))
    if outcome != "done":
        print(last, flush=True)


def _follow(client: ApiClient) -> tuple[str, str]:
    """Print every line; the outcome, and the last line if it is no good one."""
    try:
        for body in client.lines(_PATH, {}):
            line = json.loads(body)
            if line["outcome"] is not None:
                if line["outcome"] == "done":
                    print(line["text"], flush=True)
                return line["outcome"], line["text"]
            if line["warning"]:
                say(line["text"])
            else:
                print(line["text"], flush=True)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        say("the rolling restart goes on; `botctl restart --abort` takes it back")
        raise
    except ControlAwayError as error:
        raise _lost(client.note) from error
    raise _lost(client.note)


def _where_to_look(client: ApiClient, last: str) -> str:
    """The commands that tell more of the bots that the last line names."""
    try:
        known = [bot["name"] for bot in client.get("/v1/status", timeout=10.0)["bots"]]
    except BotctlError:
        known = []
    words = set(_WORD.findall(last))
    named = [name for name in known if name in words][:_NAMED]
    if not named:
        return "`botctl logs control` and `botctl logs forkserver` tell more."
    commands = [f"`botctl {verb} {name}`" for name in named for verb in ("why", "logs")]
    return f"{', '.join(commands[:-1])} and {commands[-1]} tell what went wrong."


def _lost(note: DaemonNote) -> BotctlError:
    """Nobody tells any more. Who takes it back depends on who has ended."""
    now = live_note(DataFolder(Path(note.data_dir)))
    if now is None or now.pid != note.pid or now.state == "stopping":
        return BotctlError(
            "the daemon ended in the middle of the rolling restart",
            hint="Nothing is taken back: the next daemon starts every bot with the code that stands on disk.",
        )
    return BotctlError(
        "the control process ended in the middle of the rolling restart",
        hint="The next one takes it back by itself; `botctl logs control` tells.",
    )
