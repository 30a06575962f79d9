"""A fleet of four bots with handlers, the copies of its code, and no waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.control.rollouts import reach as rollout_reach
from botctl.control.rollouts import rules as rollout
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.fleet import Fleet


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_reach, "_POLL", 0.001)
    monkeypatch.setattr(rollout_reach, "_POLL_A_BOT", 0.0)
    monkeypatch.setattr(rollout, "_MARGIN", 0.0)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    (tmp_path / "shop.py").write_text("old = 1\n")
    bots = [{"name": f"b{n}", "token": f"{n}:secret-of-this-bot", "handlers": "shop:register"} for n in range(1, 5)]
    for bot in bots:
        bot["restart"] = {"stop_timeout": 0.05, "ready_timeout": 0.05}  # type: ignore[assignment]
    return Fleet.model_validate({"bots": bots, "folder": str(tmp_path)})


@pytest.fixture
def code(tmp_path: Path) -> CodeKeeper:
    (tmp_path / "data").mkdir()
    return CodeKeeper(tmp_path / "data" / "code")
