"""`secrets` and `bot`: what is read from whom, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.cli import bots, secrets
from botctl.cli.main import app
from botctl.security.master_keys import create_file, new_keys


class ClientDouble:
    """The API, which answers as it is told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Any]] = []

    def get(self, path: str, *, timeout: float = 0.0) -> Any:
        return self.answers[path.rpartition("/")[2]]

    def post(self, path: str, body: Any = None, *, timeout: float = 0.0) -> Any:
        self.sent.append((path, body))
        return self.answers[path.rpartition("/")[2]]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClientDouble:
    made = ClientDouble()
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("BOTCTL_MASTER_KEY", raising=False)
    for module in (bots, secrets):
        monkeypatch.setattr(module.ApiClient, "of", lambda folder: made)
    return made


def run(*arguments: str, given: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_a_token_is_read_from_standard_input_and_not_shown(double: ClientDouble) -> None:
    double.answers |= {"status": {"bots": [{"name": "a"}]}, "token": {"message": "a is restarted"}}
    done = run("bot", "rotate-token", "a", given="7:sesame-sesame\n")
    assert done.exit_code == 0
    assert double.sent == [("/v1/bots/a/token", {"token": "7:sesame-sesame"})]
    assert "sesame" not in done.output
    assert run("bot", "rotate-token", "a", given="\n").exit_code == 2
    assert len(double.sent) == 1


def test_keys_of_the_environment_are_given_and_those_of_the_file_are_not(
    double: ClientDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    double.answers["rotate-master"] = {"version": 2, "rewrapped": 1, "todo": "", "entry": ""}
    create_file(tmp_path)
    done = run("secrets", "rotate-master")
    assert "version 2 is in use; 1 data key rewrapped" in done.output
    keys = new_keys()
    monkeypatch.setenv("BOTCTL_MASTER_KEY", keys.text())
    run("secrets", "rotate-master")
    assert [body for _, body in double.sent] == [{"keys": ""}, {"keys": keys.text()}]


def test_a_key_that_the_operator_must_keep_is_all_that_stands_on_standard_output(double: ClientDouble) -> None:
    double.answers["rotate-master"] = {"version": 1, "rewrapped": 0, "todo": "Put this there.", "entry": "2:KEY"}
    done = run("secrets", "rotate-master")
    assert (done.stdout, done.exit_code) == ("2:KEY\n", 0)
    assert "Put this there." in done.stderr


def test_the_status_tells_ages_and_a_rotation_under_way(double: ClientDouble) -> None:
    nora = {
        "name": "nora", "bot_id": 7, "key": 2, "key_since": 1.0, "keys": 2, "master_versions": [1, 2],
        "encrypts_messages": True, "token": "rotated", "token_since": 1.0,
    }  # fmt: skip
    max_ = {
        "name": "max", "bot_id": 8, "key": None, "key_since": None, "keys": 0, "master_versions": [],
        "encrypts_messages": False, "token": "file", "token_since": None,
    }  # fmt: skip
    double.answers["secrets"] = {
        "source": "file", "place": "/d/master.key", "version": 2, "held": [2, 1], "data_keys": 2, "to_rewrap": 1,
        "bots": [nora, max_],
    }  # fmt: skip
    shown = run("secrets", "status").stdout
    for word in ("version 2, held with 1 (/d/master.key)", "1 of 2 data keys", "nora", "sealed", "clear", "rotated "):
        assert word in shown
    assert run("secrets", "status", "--json").stdout.startswith("{")
