"""What `botctl chaos` does: read both files, set the stage, run, write the reports, end everything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from botctl.cli.chaos import report as reports
from botctl.cli.chaos.borrowed import Stand
from botctl.cli.chaos.run import run
from botctl.cli.chaos.scenario import Scenario
from botctl.cli.chaos.scenario_file import FLEET, check_names, find, load_scenario, shipped
from botctl.cli.chaos.stage import Stage
from botctl.cli.shared import say
from botctl.errors import BotctlError, UsageError
from botctl.fleet import Fleet, load_fleet


def list_scenarios() -> None:
    """Print name, length and purpose of each scenario that botctl brings."""
    for name, scenario in shipped().items():
        print(f"{name:14} {scenario.calm + scenario.duration:4.0f} s  {scenario.about}")


def run_chaos(
    name: str,
    fleet_file: Path | None,
    *,
    seed: int | None,
    real_completions: bool,
    json_file: Path | None,
    report_file: Path | None,
    keep_logs: Path | None,
) -> int:
    """Run it; returns the exit code."""
    for file in (json_file, report_file):
        if file is not None and (file.is_dir() or not os.access(file.resolve().parent, os.W_OK)):
            raise UsageError(f"{file} can't be written", hint="Name a file in a folder that is there.")
    scenario = load_scenario(name)
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    path = fleet_file or FLEET
    fleet = load_fleet(path, Stand(os.environ))
    check_names(scenario, {bot.name for bot in fleet.bots if bot.enabled}, str(find(name)))
    # Whoever ends a run early shall find nothing left of it, be it a person or a CI job's deadline. A shell starts what
    # it runs in the background with SIGINT ignored: TERM has to end that, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        report = _run(fleet, path, scenario, find(name).stem, real_completions=real_completions, keep_logs=keep_logs)
    except KeyboardInterrupt:
        say("ended before its time")
        return 130
    print(reports.text(report), flush=True)  # before files that can't be written take it along
    _write(json_file, json.dumps(report.as_json(), indent=2) + "\n")
    _write(report_file, reports.markdown(report))
    return 0 if report.passed else 1


def _run(
    fleet: Fleet, path: Path, scenario: Scenario, name: str, *, real_completions: bool, keep_logs: Path | None
) -> reports.Report:
    """On a stage of its own. Whatever ends it but success, also before the first message, leaves the logs."""
    with Stage(fleet, path, real_completions=real_completions) as stage:
        passed = False
        try:
            say(f"starting {len(stage.bots)} bots in {stage.folder}")
            stage.start()
            say(f"{scenario.calm:g} s of calm, then {scenario.duration:g} s of {name}")
            report = asyncio.run(run(stage, scenario, name, say))
            passed = report.passed
        finally:
            if keep_logs is not None and not passed:
                stage.keep_logs(keep_logs)
    return report


def _write(path: Path | None, content: str) -> None:
    if path is None:
        return
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise BotctlError(f"{path} can't be written: {error.strerror}") from error
