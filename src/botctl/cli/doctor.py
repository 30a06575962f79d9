"""doctor: is everything there that a daemon needs? Looks, and changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from botctl.cli.shared import DataDir, FleetFile, console
from botctl.errors import BotctlError


def doctor(
    fleet: FleetFile = None,
    data_dir: DataDir = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also ask Telegram whether each token is valid.")] = False,
) -> None:
    """Check versions, servers, limits, files and, if asked, tokens."""
    from rich.text import Text

    from botctl.cli.checks import run_checks
    from botctl.cli.findings import Verdict

    screen = console()
    marks = {Verdict.OK: ("ok  ", "green"), Verdict.WARN: ("warn", "yellow"), Verdict.FAIL: ("FAIL", "bold red")}
    failed = 0
    for finding in run_checks(fleet, data_dir, tokens=tokens):
        mark, colour = marks[finding.verdict]
        screen.print(Text(mark, style=colour), Text(f"{finding.subject}: {finding.text}"))
        if finding.hint:
            screen.print(Text(f"     {finding.hint}", style="dim"))
        failed += finding.verdict is Verdict.FAIL
    if failed:
        raise BotctlError(f"{failed} {'check has' if failed == 1 else 'checks have'} failed")
