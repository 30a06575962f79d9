"""Exit codes and words of commands when no daemon runs, or a file is wrong."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.cli import looking, shared
from botctl.cli.main import app
from botctl.cli.note import live_note, process_started
from botctl.settings.places import DataFolder


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("BOTCTL_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def write_note(folder: Path, **fields: Any) -> None:
    (folder / "run").mkdir(parents=True)
    note = {
        "pid": os.getpid(), "process_started": process_started(os.getpid()), "started_at": 1.0, "version": "0",
        "state": "serving", "socket": str(folder / "run/api.sock"), "data_dir": str(folder),
        "telegram_base_url": "https://api.telegram.org", "something_new": {},
    }  # fmt: skip
    (folder / "run/daemon.json").write_text(json.dumps(note | fields))


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["status", "--json"], ["stop"], ["stop", "a"], ["restart"], ["reload"], ["release", "a"],
        ["release", "--all"], ["events"], ["chat", "a"], ["db", "psql", "--as-bot", "a"],
    ],
)  # fmt: skip
def test_without_a_daemon_the_exit_code_is_3(command: list[str], tmp_path: Path) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert f"no daemon runs on {tmp_path / 'data'}" in result.stderr
    assert "hint: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["release"],
        ["release", "a", "--all"],
        ["events", "--log", "x"],
        ["logs", "-n", "-5"],
    ],
)
def test_a_wrong_command_line_is_2(command: list[str]) -> None:
    assert run(*command).exit_code == 2


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_0_everywhere(flag: str) -> None:
    for command in ([], ["start"], ["status"], ["db"], ["db", "psql"], ["demo"]):
        assert run(*command, flag).exit_code == 0


def test_a_wrong_fleet_file_is_2_and_names_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("bots:\n  - name: a\n    token: ${NOT_SET_ANYWHERE}\n    tokken: x\n")
    for command in (["start"], ["start", "--detach"], ["apply"], ["apply", "--dry-run"]):
        result = run(*command)
        assert result.exit_code == 2
        assert f"{tmp_path}/fleet.yaml:3: bots[0].token: the environment variable NOT_SET_ANYWHERE" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_fleet_file_that_is_not_there_is_2(tmp_path: Path) -> None:
    result = run("start", "--fleet", "none.yaml")
    assert result.exit_code == 2
    assert f"{tmp_path}/none.yaml" in result.stderr


def test_a_wrong_setting_is_2_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTCTL_LOG_FORMAT", "xml")
    result = run("start")
    assert result.exit_code == 2
    assert "environment: BOTCTL_LOG_FORMAT" in result.stderr


def test_a_second_daemon_on_a_folder_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("bots:\n  - name: a\n    token: 1:abc\n")
    write_note(tmp_path / "data")
    result = run("start", "--detach")
    assert result.exit_code == 1
    assert f"pid {os.getpid()}" in result.stderr


def test_a_daemon_whose_control_is_away_is_not_called_absent(tmp_path: Path) -> None:
    write_note(tmp_path / "data")
    result = run("status")
    assert result.exit_code == 1
    assert "control process does not answer" in result.stderr


def test_a_socket_that_was_deleted_is_not_said_to_come_back(tmp_path: Path) -> None:
    write_note(tmp_path / "data")
    result = run("status")
    assert f"hint: Somebody has deleted {tmp_path}/data/run/api.sock." in result.stderr
    assert "by itself" not in result.stderr


def test_without_a_daemon_it_is_told_what_the_last_one_said(tmp_path: Path) -> None:
    (tmp_path / "data/run").mkdir(parents=True)
    (tmp_path / "data/run/boot-error.txt").write_text("every wanted bot is quarantined\na: refused\n")
    for command in ("status", "stop"):
        result = run(command)
        assert result.exit_code == 3
        assert "The last one said: every wanted bot is quarantined (" in result.stderr
        assert "run/boot-error.txt" in result.stderr


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["stop", ""], 2, "a bot's name is not empty"),
        (["stop", "../x"], 4, "no bot is called '../x'"),
        (["restart", ".."], 4, "no bot is called '..'"),
        (["status", "--data-dir", ""], 2, "it is empty"),
        (["events", "--after", "zz"], 2, "'zz' is no id of an entry"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path, command: list[str], code: int, words: str) -> None:
    write_note(tmp_path / "data")
    result = run(*command)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


def test_a_process_of_ours_that_has_written_nothing_has_a_log_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "data/logs").mkdir(parents=True)
    result = run("logs", "forkserver")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "botctl: forkserver has written nothing\n")


def test_a_daemon_that_is_starting_says_so(tmp_path: Path) -> None:
    write_note(tmp_path / "data", state="starting")
    result = run("status")
    assert result.exit_code == 1
    assert "still starting" in result.stderr


@pytest.mark.parametrize("fields", [{"process_started": 1}, {"pid": 2**22 + 1}, {"process_started": None}])
def test_a_note_left_by_a_killed_daemon_does_not_count(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_note(tmp_path / "data", **fields)
    assert live_note(DataFolder(tmp_path / "data")) is None
    assert run("status").exit_code == 3


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["why", "a"]])
def test_a_control_that_does_not_answer_is_told_while_it_is_waited_for(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.02)
    monkeypatch.setattr(looking, "_TIMEOUT", 0.5)
    monkeypatch.setattr("botctl.cli.why._TIMEOUT", 0.5)
    write_note(tmp_path / "data", socket="run/api.sock")
    monkeypatch.chdir(tmp_path / "data")  # whose path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind("run/api.sock")
        deaf.listen()
        result = run(*command)
    assert result.exit_code == 1
    assert result.stderr.startswith("botctl: control does not answer yet")


def test_a_daemon_of_another_pid_namespace_is_not_called_absent(tmp_path: Path) -> None:
    write_note(tmp_path / "data", process_started=1)
    lock = tmp_path / "data/run/daemon.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for command in (["status"], ["stop"], ["restart", "a"]):
            result = run(*command)
            assert result.exit_code == 3
            assert f"the daemon that holds {tmp_path / 'data'} runs in another PID namespace" in result.stderr
            assert "docker exec" in result.stderr
        (tmp_path / "data/logs").mkdir()
        (tmp_path / "data/logs/a.log").write_text("")
        (tmp_path / "data/logs/deaths.log").write_text("")
        assert "runs in another PID namespace" in run("why", "a").stdout
    assert "no daemon runs on" in run("status").stderr


def test_a_daemon_whose_note_is_gone_or_garbage_is_named(tmp_path: Path) -> None:
    run_folder = tmp_path / "data/run"
    run_folder.mkdir(parents=True)
    folder = os.open(tmp_path / "data", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        (run_folder / "daemon.json").write_text("{garbage")
        for command in (["status"], ["stop"]):
            result = run(*command)
            assert result.exit_code == 3
            assert f"a daemon (pid {os.getpid()}) holds {tmp_path / 'data'}, but" in result.stderr
            assert f"kill -TERM {os.getpid()}" in result.stderr
        shutil.rmtree(run_folder)
        assert "is gone" in run("status").stderr
    finally:
        os.close(folder)
    assert "no daemon runs on" in run("status").stderr


def test_a_held_lock_without_a_note_is_a_daemon_that_only_begins(tmp_path: Path) -> None:
    (tmp_path / "data/run").mkdir(parents=True)
    with (tmp_path / "data/run/daemon.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "no daemon runs on" in run("status").stderr


def test_logs_are_read_without_a_daemon(tmp_path: Path) -> None:
    logs = tmp_path / "data/logs"
    logs.mkdir(parents=True)
    (logs / "a.log").write_text("".join(f"line {number}\n" for number in range(100)))
    (logs / "daemon.log").write_text("it starts\n")
    assert run("logs", "a", "-n", "2").stdout == "line 98\nline 99\n"
    assert run("logs", "-n", "1").stdout == "a | line 99\ndaemon | it starts\n"
    missing = run("logs", "b")
    assert missing.exit_code == 4
    assert "a, daemon" in missing.stderr


def test_the_embedded_servers_words_are_shown_with_those_that_nobody_has_passed_on_yet(tmp_path: Path) -> None:
    """As when it can't start: `control`, which passes them on, isn't there then."""
    data = tmp_path / "data"
    for folder in ("logs", "postgres/log", "postgres/data"):
        (data / folder).mkdir(parents=True)
    (data / "logs/postgres.log").write_text("it begins\n")
    (data / "logs/postgres-messages.log").write_text("it runs\n")
    said = {"timestamp": "now", "pid": 7, "error_severity": "PANIC", "message": "could not locate a checkpoint record"}
    (data / "postgres/log/server-1.json").write_text(json.dumps(said) + "\n")
    assert run("logs", "postgres").stdout == "it begins\nit runs\nnow [7] PANIC: could not locate a checkpoint record\n"


def test_db_url_is_the_external_servers_or_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("db", "url").exit_code == 1
    monkeypatch.setenv("BOTCTL_DATABASE_URL", "postgresql://u:p@h/d")
    assert run("db", "url").stdout == "postgresql://u:p@h/d\n"


def test_the_version_is_printed() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("botctl ")
