"""What a daemon says that is told to stop while it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from botctl.cli.boot import BootPayload
from botctl.cli.daemon import Daemon
from botctl.handover import DatabaseLogin, DatabaseTarget, SetupResult
from botctl.runtime.folder import DataFolder
from botctl.runtime.notify import Notifier
from botctl.security import master_keys


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


def test_an_error_after_set_up_ends_the_start_in_words(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(master_keys, "at_start", fail)
    login = DatabaseLogin(target=DatabaseTarget(host="nowhere"), user="control", password="x")
    done = SetupResult(control=login, postgres_version="18", redis_version="9", migrated_from=None, migrated_to="1")
    with pytest.raises(OSError, match="the disk"):  # for the log, with its place
        daemon.setup_done(msgspec.json.encode(done))
    assert daemon.supervisor.shutting_down
    assert daemon._failure is not None
    assert "the disk is gone" in daemon._failure


def test_so_does_an_answer_of_set_up_that_nobody_understands(daemon: Daemon) -> None:
    with pytest.raises(msgspec.DecodeError):
        daemon.setup_done(b'{"half')
    assert daemon.supervisor.shutting_down
    assert daemon._failure is not None
    assert "set-up" in daemon._failure
