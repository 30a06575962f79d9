"""What a daemon says that is told to stop while it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from botctl.cli.boot import BootPayload
from botctl.cli.daemon import Daemon
from botctl.runtime.folder import DataFolder
from botctl.runtime.notify import Notifier


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    folder = DataFolder(tmp_path)
    folder.acquire()
    yield Daemon(BootPayload(data_dir=str(tmp_path), fleet=msgspec.Raw(b'{"bots": []}')), folder, Notifier())
    folder.release()


def test_it_does_not_serve_any_more(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.supervisor.shut_down()
    daemon.setup_done(b"")  # not even looked at
    daemon.serving()
    assert "serving" not in capsys.readouterr().err
    assert DataFolder(tmp_path).note()["state"] == "stopping"


def test_else_it_does(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.serving()
    assert "serving; `botctl status" in capsys.readouterr().err
    assert DataFolder(tmp_path).note()["state"] == "serving"
