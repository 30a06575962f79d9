"""What commands to bots say: releases, and bots that do not come."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from botctl.cli import lifecycle
from botctl.cli.main import app

QUARANTINED = {"name": "cyd", "state": "quarantined", "reason": "signal 11", "pid": None}


class Client:
    """One bot, quarantined unless the test says otherwise; remembers what was posted."""

    posted: ClassVar[list[str]] = []
    bots: ClassVar[list[dict[str, Any]]] = [QUARANTINED]

    @classmethod
    def of(cls, folder: Any) -> Client:
        return cls()

    def __init__(self, note: Any = None) -> None:
        pass

    def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        return {"bots": self.bots}

    def post(self, path: str) -> dict[str, Any]:
        self.posted.append(path)
        return {"accepted": True, "message": "released: cyd"}


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "ApiClient", Client)
    monkeypatch.setattr(lifecycle, "require_note", lambda folder: None)
    monkeypatch.setattr(Client, "posted", [])


def test_release_all_says_who_was_released() -> None:
    result = CliRunner().invoke(app, ["release", "--all"])
    assert (result.exit_code, result.stderr) == (0, "botctl: released: cyd\n")
    assert Client.posted == ["/v1/release"]


def test_a_bot_is_released_by_name() -> None:
    result = CliRunner().invoke(app, ["release", "cyd"])
    assert (result.exit_code, result.stderr) == (0, "botctl: cyd is released\n")
    assert Client.posted == ["/v1/bots/cyd/release"]


def test_a_bot_that_is_quarantined_meanwhile_is_to_be_asked_why() -> None:
    result = CliRunner().invoke(app, ["restart", "cyd"])
    assert result.exit_code == 1
    assert "hint: See `botctl why cyd`." in result.stderr


@pytest.mark.parametrize(
    ("verb", "bot", "words"),
    [
        ("stop", {"state": "running", "reason": "", "pid": 7, "wanted": True}, "it is running"),
        ("stop", {"state": "starting", "reason": "x", "pid": 7, "wanted": True}, "it is starting: x"),
        ("restart", {"state": "stopped", "reason": "x", "pid": None, "wanted": False}, "it is stopped: x"),
        ("restart", {"state": "stopping", "reason": "", "pid": 7, "wanted": False}, "it is stopping"),
    ],
)  # fmt: skip
def test_a_command_that_another_has_overtaken_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, verb: str, bot: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(Client, "bots", [{"name": "cyd", **bot}])
    result = CliRunner().invoke(app, [verb, "cyd", "--timeout", "30"])
    done = {"stop": "stopped", "restart": "restarted"}[verb]
    told = f"botctl: error: cyd is not {done}: overtaken by another command; {words}\n"
    assert (result.exit_code, result.stderr) == (1, told)


def test_a_bot_that_left_the_fleet_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "bots", [])
    result = CliRunner().invoke(app, ["stop", "cyd"])
    assert (result.exit_code, result.stderr) == (
        1, "botctl: error: cyd is not stopped: it has left the fleet meanwhile\n"
    )  # fmt: skip
