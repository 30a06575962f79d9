"""chaos: one's own fleet under faults, with users who keep account of every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def chaos(
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="FILE", help="A scenario's file, or the name of one from --list.")
    ] = "smoke",
    fleet: Annotated[
        Path | None,
        typer.Option("--fleet", metavar="FILE", help="The fleet file; without it, a small one of botctl's."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the scenarios that botctl brings, and end.")] = False,
    seed: Annotated[int | None, typer.Option(help="Another seed than the scenario's.")] = None,
    real_completions: Annotated[
        bool, typer.Option("--real-completions", help="Ask the true completion API; it costs money.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report there as JSON.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report there as Markdown.")
    ] = None,
    keep_logs: Annotated[
        Path | None, typer.Option("--keep-logs", metavar="FOLDER", help="Keep the logs there when it failed.")
    ] = None,
) -> None:
    """Run the fleet in a folder of its own against the sandbox, harm it, and report lost and double answers.

    Tokens, servers and, unless asked for, completions are the sandbox's. Exit code 0 when nothing was lost, and nothing
    was answered twice but what was counted as uncertain.
    """
    from botctl.cli.chaos.course import list_scenarios, run_chaos

    if listed:
        list_scenarios()
        raise typer.Exit
    code = run_chaos(
        scenario,
        fleet,
        seed=seed,
        real_completions=real_completions,
        json_file=json_file,
        report_file=report_file,
        keep_logs=keep_logs,
    )
    raise typer.Exit(code)
