"""What is left of a chaos run that can't go on: its logs, and the report that was printed before any file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from botctl.cli.chaos import course
from botctl.cli.chaos.report import Latency, Report
from botctl.cli.chaos.stage import Stage
from botctl.errors import BotctlError, UsageError

REPORT = Report("smoke", 1, 1, 1.0, sent=1, answered=1, latencies=[Latency("all", 1, 1, 0.1, 0.1, 0.1)])


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Stage) -> None:
        (self.data.root / "logs").mkdir(parents=True)
        (self.data.root / "logs" / "supervisor.log").write_text("why\n")

    async def run(*_: object) -> Report:
        return REPORT

    monkeypatch.setattr(Stage, "start", start)
    monkeypatch.setattr(course, "run", run)


def chaos(tmp_path: Path, **files: Any) -> int:
    asked = {"json_file": None, "report_file": None, "keep_logs": tmp_path / "kept", **files}
    return course.run_chaos("smoke", None, seed=None, real_completions=False, **asked)


def test_a_bot_that_never_starts_leaves_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = Stage.start

    def start(self: Stage) -> None:
        works(self)
        raise BotctlError("not every bot runs")

    monkeypatch.setattr(Stage, "start", start)
    with pytest.raises(BotctlError, match="not every bot runs"):
        chaos(tmp_path)
    assert (tmp_path / "kept" / "supervisor.log").read_text() == "why\n"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), BotctlError("control is away")])
def test_a_run_that_is_ended_leaves_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    async def run(*_: object) -> Report:
        await asyncio.sleep(0)
        raise end

    monkeypatch.setattr(course, "run", run)
    if isinstance(end, KeyboardInterrupt):
        assert chaos(tmp_path) == 130
    else:
        with pytest.raises(BotctlError, match="control is away"):
            chaos(tmp_path)
    assert (tmp_path / "kept" / "supervisor.log").exists()


def test_logs_of_a_run_that_passed_are_not_kept_and_those_that_can_t_be_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chaos(tmp_path) == 0
    assert not (tmp_path / "kept").exists()
    monkeypatch.setattr(course, "run", lambda *_: lost())
    (tmp_path / "kept").write_text("a file")
    assert chaos(tmp_path) == 1
    assert "logs could be kept" in capsys.readouterr().err


async def lost() -> Report:
    return Report("smoke", 1, 1, 1.0, sent=1, lost=1, latencies=REPORT.latencies)


@pytest.mark.parametrize("file", ["json_file", "report_file"])
def test_a_report_that_can_t_be_written_has_been_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    folder = tmp_path / "goes"
    folder.mkdir()

    async def run(*_: object) -> Report:
        folder.rmdir()
        return REPORT

    monkeypatch.setattr(course, "run", run)
    with pytest.raises(BotctlError, match="can't be written"):
        chaos(tmp_path, **{file: folder / "report"})
    assert "1 sent, 1 answered, 0 lost" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["nowhere/report", "."])
@pytest.mark.parametrize("which", ["json_file", "report_file"])
def test_a_report_that_can_t_be_written_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, which: str
) -> None:
    monkeypatch.setattr(Stage, "start", lambda _: pytest.fail("it has begun"))
    with pytest.raises(UsageError, match="can't be written"):
        chaos(tmp_path, **{which: tmp_path / where})


def test_a_report_s_file_may_be_new(tmp_path: Path) -> None:
    assert chaos(tmp_path, json_file=tmp_path / "report.json", report_file=tmp_path / "report.md") == 0
    assert (tmp_path / "report.json").exists()
