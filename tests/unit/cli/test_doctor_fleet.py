"""Which fleet file `doctor` looks at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from botctl.cli.checks import _fleet_file
from botctl.runtime import linux
from botctl.settings.load import load_settings
from botctl.settings.model import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/run").mkdir(parents=True)
    return load_settings(fleet=None, data_dir=tmp_path / "data")


def note(folder: Path, **more: Any) -> None:
    """Of a daemon that runs: this process."""
    told = {
        "pid": os.getpid(),
        "process_started": linux.start_ticks(os.getpid()),
        "started_at": 0.0,
        "version": "1",
        "state": "serving",
        "socket": "s",
        "data_dir": str(folder),
        "telegram_base_url": "t",
        **more,
    }
    (folder / "data/run/daemon.json").write_text(json.dumps(told))


def test_it_is_the_running_daemons_when_there_is_none_here(settings: Settings, tmp_path: Path) -> None:
    note(tmp_path, fleet_path="/srv/fleet.yaml")
    assert _fleet_file(settings, asked_for=False) == (Path("/srv/fleet.yaml"), " (the running daemon's)")
    assert _fleet_file(settings, asked_for=True) == (settings.fleet, "")


def test_it_is_the_one_here_when_there_is_one(settings: Settings, tmp_path: Path) -> None:
    note(tmp_path, fleet_path="/srv/fleet.yaml")
    settings.fleet.write_text("bots: []\n")
    assert _fleet_file(settings, asked_for=False) == (settings.fleet, "")


@pytest.mark.parametrize("more", [{"process_started": 1, "fleet_path": "/srv/fleet.yaml"}, {}])
def test_a_daemon_that_is_gone_or_does_not_say_has_none(settings: Settings, tmp_path: Path, more: Any) -> None:
    note(tmp_path, **more)
    assert _fleet_file(settings, asked_for=False) == (settings.fleet, "")
