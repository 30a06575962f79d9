"""`botctl send`: what stands on standard output, for scripts, and what is said to people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.cli import sending
from botctl.cli.main import app


class ClientDouble:
    """The API, over a bot that sends the first message and is refused the others."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []

    def post(self, path: str, body: Any) -> dict[str, Any]:
        self.posted.append((path, body))
        sends = [
            {"id": f"ab.{number}" if number else "ab", "chat": chat, "state": "waiting"}
            for number, chat in enumerate(body["chats"])
        ]
        return {"sends": sends, "bot_state": "running", "runs": True}

    def get(self, path: str) -> dict[str, Any]:
        sent = {"id": "ab", "chat": None, "state": "sent", "message_id": 7, "error": None}
        refused = {"id": "ab.1", "chat": None, "state": "refused", "message_id": None, "error": "Forbidden: blocked"}
        return {"sends": [sent, refused][: path.count("id=")]}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClientDouble:
    made = ClientDouble()
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sending.ApiClient, "of", lambda folder: made)
    return made


def send(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["send", "nora", "hello", *arguments])


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--chat", "5"], "op:ab\n"),
        (["--chat", "5", "--chat", "@news"], "5 op:ab\n@news op:ab.1\n"),
        (["--chat", "5", "--wait"], "7\n"),
    ],
)
def test_ids_are_printed(double: ClientDouble, arguments: list[str], printed: str) -> None:
    done = send(*arguments)
    assert (done.exit_code, done.stdout) == (0, printed)


def test_as_json_it_is_what_the_api_says(double: ClientDouble) -> None:
    done = send("--chat", "5", "--json")
    assert json.loads(done.stdout) == {
        "sends": [{"id": "ab", "chat": 5, "state": "waiting"}], "bot_state": "running", "runs": True,
    }  # fmt: skip


def test_as_json_with_wait_it_has_what_came_of_it_and_failures_show_in_the_exit_code(double: ClientDouble) -> None:
    done = send("--chat", "5", "--chat", "6", "--json", "--wait")
    assert done.exit_code == 1
    assert [(one["chat"], one["state"], one["message_id"]) for one in json.loads(done.stdout)["sends"]] == [
        (5, "sent", 7),
        (6, "refused", None),
    ]
    assert "was refused by Telegram: Forbidden: blocked" in done.stderr
