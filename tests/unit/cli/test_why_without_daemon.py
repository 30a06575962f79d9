"""`botctl why` with no daemon, or one whose control is away: it reads the file, and says so."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.cli.main import app
from botctl.cli.note import process_started


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("BOTCTL_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["why", *arguments])


def record(incarnation: int, seconds_ago: float, **more: Any) -> str:
    told = {
        "type": "Lifecycle", "seq": incarnation, "at": time.time() - seconds_ago, "name": "support", "bot_id": 7,
        "incarnation": incarnation, "from_state": "running", "to_state": "backoff", "reason": "exit 1",
        "exit": "exit 1", "failure": "crash", "duration": 5.0, "cause": f"cause {incarnation}",
        "log_tail": ["last line"],
    }  # fmt: skip
    return json.dumps(told | more, separators=(",", ":")) + "\n"


def serve_note(folder: Path) -> None:
    (folder / "run").mkdir()
    note = {
        "pid": os.getpid(), "process_started": process_started(os.getpid()), "started_at": 1.0, "version": "0",
        "state": "serving", "socket": str(folder / "run/api.sock"), "data_dir": str(folder),
        "telegram_base_url": "https://api.telegram.org",
    }  # fmt: skip
    (folder / "run/daemon.json").write_text(json.dumps(note))


def test_without_daemon_and_file_the_exit_code_is_3(tmp_path: Path) -> None:
    result = run("support")
    assert result.exit_code == 3
    assert f"no daemon runs on {tmp_path}" in result.stderr


def test_without_a_daemon_the_file_tells_the_latest_deaths(logs: Path, tmp_path: Path) -> None:
    (logs / "deaths.log.1").write_text(record(1, 400))
    (logs / "deaths.log").write_text(
        "garbage\n" + record(2, 300) + record(3, 200) + record(4, 150, failure=None, exit="exit 0", cause="asked")
        + record(5, 100) + record(9, 50, name="other", bot_id=8) + record(6, 40)[:50]
    )  # fmt: skip
    result = run("support")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"How support is now can't be told: no daemon runs on {tmp_path}."
    assert f"! This is what {logs}/deaths.log tells." in lines
    assert [line.rpartition(": ")[2] for line in lines if "): cause" in line] == ["cause 5", "cause 3", "cause 2"]
    assert "crash 4 times" in result.stdout
    assert "asked" not in result.stdout
    assert "asked" in run("support", "--all").stdout
    assert run("support", "-n", "1").stdout.count("): cause") == 1
    body = json.loads(run("support", "--json", "--last", "9").stdout)
    assert [(death["incarnation"], death["source"]) for death in body["deaths"]] == [
        (number, "file") for number in (5, 3, 2, 1)
    ]


def test_a_bot_the_file_has_never_heard_of_is_4(logs: Path) -> None:
    (logs / "deaths.log").write_text(record(1, 10))
    result = run("sales")
    assert result.exit_code == 4
    assert "tells of no bot called 'sales'" in result.stderr
    assert "hint: It tells of: support." in result.stderr


def test_a_bot_that_has_a_log_and_no_death_has_not_died(logs: Path) -> None:
    (logs / "deaths.log").write_text(record(1, 86_400 * 3))
    (logs / "sales.log").touch()
    result = run("sales")
    assert result.exit_code == 0
    assert "sales has not died since" in result.stdout
    assert "(3 days ago), when its history begins." in result.stdout


def test_with_control_away_the_file_answers_and_the_reason_is_told(logs: Path, tmp_path: Path) -> None:
    serve_note(tmp_path)
    nothing = run("support")
    assert nothing.exit_code == 1
    assert "control process does not answer" in nothing.stderr
    (logs / "deaths.log").write_text(record(1, 10))
    told = run("support")
    assert told.exit_code == 0
    assert "How support is now can't be told: the daemon (pid " in told.stdout
    assert "control process does not answer." in told.stdout
    assert "cause 1" in told.stdout
    unknown = run("sales")
    assert unknown.exit_code == 1, "only control could say whether there is such a bot"


@pytest.mark.parametrize("arguments", [[], ["a", "--last", "0"], ["a", "b"], ["a", "--nonsense"]])
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_file_is_no_log_of_a_process(logs: Path) -> None:
    (logs / "deaths.log").write_text(record(1, 10))
    (logs / "support.log").write_text("it says\n")
    assert CliRunner().invoke(app, ["logs"]).stdout == "support | it says\n"
    missing = CliRunner().invoke(app, ["logs", "sales"])
    assert "deaths" not in missing.stderr
    assert "cause 1" in CliRunner().invoke(app, ["logs", "deaths"]).stdout
