"""What `doctor` says of the code that rolling restarts keep copies of."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.cli.checks import _code
from botctl.cli.findings import Verdict
from botctl.control.rollouts import code_keeper
from botctl.fleet import Fleet
from botctl.settings.model import Settings


def findings(folder: Path, handlers: str | None) -> list[tuple[Verdict, str]]:
    bot = {"name": "a", "token": "1:secret-of-this-bot", "handlers": handlers}
    fleet = Fleet.model_validate({"bots": [bot], "folder": str(folder)})
    return [(one.verdict, one.text) for one in _code(fleet, Settings(data_dir=folder / "data"))]


def test_the_files_of_handlers_are_counted_and_too_many_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("")
    assert findings(tmp_path, None) == []
    assert findings(tmp_path, "a:register") == [(Verdict.OK, f"2 Python files in {tmp_path}, kept for rollouts")]
    monkeypatch.setattr(code_keeper, "MOST_FILES", 1)
    [(verdict, text)] = findings(tmp_path, "a:register")
    assert verdict is Verdict.WARN
    assert "more than 1 Python files" in text
