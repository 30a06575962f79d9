"""What `doctor` finds about dead letters that wait for an operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botctl.cli.findings import Finding, Verdict
from botctl.cli.note import live_note
from botctl.errors import BotctlError
from botctl.settings.places import DataFolder


def dead_letter_findings(folder: DataFolder, timeout: float) -> Iterator[Finding]:
    """Of the daemon that runs, if one does; what it can't tell within `timeout` seconds is told by other checks."""
    from botctl.cli.client import ApiClient

    if live_note(folder) is None:
        return
    try:
        bots = ApiClient.of(folder).get("/v1/status", timeout=timeout)["bots"]
    except (BotctlError, PermissionError):
        return
    yield told(bots)


def told(bots: Iterable[Mapping[str, Any]]) -> Finding:
    """In words, by the bots of a status. Pure."""
    waiting = [f"{count} of {bot['name']}" for bot in bots if (count := bot.get("dead_letters") or 0)]
    if not waiting:
        return Finding(Verdict.OK, "dead letters", "none wait")
    hint = "botctl dead-letters list says why; retry or drop works them off."
    return Finding(Verdict.WARN, "dead letters", f"given up and waiting: {', '.join(waiting)}", hint)
