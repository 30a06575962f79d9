"""`botctl trace`: its exit codes, for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.cli import trace
from botctl.cli.main import app


class ClientDouble:
    """The API, over a bot that knows nothing of any chat."""

    def get(self, path: str, query: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        return {"bot": query["bot"], "chat_id": query["chat_id"], "now": 1.0, "messages": []}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_chat_of_which_nothing_is_known_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str]
) -> None:
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(trace.ApiClient, "of", lambda folder: ClientDouble())
    done = CliRunner().invoke(app, ["trace", "--chat", "42", "--bot", "nora", *more])
    assert done.exit_code == 1
    assert "bot nora has nothing of chat 42" in done.stderr
    assert (json.loads(done.stdout)["messages"] == []) if more else (done.stdout == "")
