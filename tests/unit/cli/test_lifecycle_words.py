"""What commands to bots say: releases, and bots that do not come."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from botctl.cli import lifecycle
from botctl.cli.main import app


class Client:
    """One quarantined bot; remembers what was posted."""

    posted: ClassVar[list[str]] = []

    @classmethod
    def of(cls, folder: Any) -> Client:
        return cls()

    def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        return {"bots": [{"name": "cyd", "state": "quarantined", "reason": "signal 11", "pid": None}]}

    def post(self, path: str) -> dict[str, Any]:
        self.posted.append(path)
        return {"accepted": True, "message": "released: cyd"}


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "ApiClient", Client)
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
