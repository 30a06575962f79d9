"""`botctl restart --wave`: begins a rolling restart, tells how it goes, and ends with its outcome.

The rollout runs in `control`: ending the command does not end it.
"""

from __future__ import annotations

import json
import sys

from botctl.cli.client import ApiClient, ControlAwayError
from botctl.cli.shared import say
from botctl.control.rollout import WaveSize
from botctl.errors import BotctlError, UsageError

_PATH = "/v1/rollout"


def check(name: str | None, *, wave: str | None, watch: bool, abort: bool) -> None:
    """Raises UsageError for options that don't go together."""
    if abort and (wave is not None or watch or name is not None):
        raise UsageError("--abort goes alone")
    if abort:
        return
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
        raise BotctlError(last, hint="`botctl why NAME` and `botctl logs NAME` tell what went wrong.")


def abort(client: ApiClient) -> None:
    """Take it back and follow that. Raises BotctlError when it could not be taken back."""
    client.post(f"{_PATH}/abort")
    outcome, last = _follow(client)
    if outcome == "failed":
        raise BotctlError(last)


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
        raise _lost() from error
    raise _lost()


def _lost() -> BotctlError:
    return BotctlError(
        "the control process ended in the middle of the rolling restart",
        hint="The next one takes it back by itself; `botctl logs control` tells.",
    )
