"""Rights on the data folder: put back where they are too few or too many, else left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from botctl.runtime import folder_modes
from botctl.runtime.folder_modes import FolderModes, Mended


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name, mode in {"": 0o755, "run": 0o700, "logs": 0o750, "bots": 0o711, "code": 0o700, "postgres": 0o711}.items():
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    for name in ("master.key", "api.token", "audit.head"):
        (folder / name).touch(0o600)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_folder_as_it_is_made_is_left_alone(data: Path) -> None:
    assert list(FolderModes(data).mend()) == []


def test_a_daemon_that_is_locked_out_gets_in_again(data: Path) -> None:
    (data / "logs").chmod(0o000)
    (data / "audit.head").chmod(0o000)
    data.chmod(0o000)
    assert list(FolderModes(data).mend()) == [
        Mended(str(data), 0, 0o700),
        Mended(str(data / "logs"), 0, 0o700),
        Mended(str(data / "audit.head"), 0, 0o600),
    ]
    assert [mode(path) for path in (data, data / "logs", data / "audit.head")] == [0o700, 0o700, 0o600]
    assert list(FolderModes(data).mend()) == []


def test_what_is_opened_to_others_is_closed(data: Path) -> None:
    (data / "master.key").chmod(0o644)
    (data / "logs").chmod(0o755)
    data.chmod(0o777)
    assert {one.path for one in FolderModes(data).mend()} == {str(data), str(data / "master.key"), str(data / "logs")}
    assert [mode(path) for path in (data, data / "logs", data / "master.key")] == [0o775, 0o750, 0o600]


def test_what_an_operator_may_have_chosen_stays(data: Path) -> None:
    chosen = {data: 0o2770, data / "run": 0o755, data / "logs": 0o700, data / "audit.head": 0o644}
    for path, bits in chosen.items():
        path.chmod(bits)
    assert list(FolderModes(data).mend()) == []
    assert {path: mode(path) for path in chosen} == chosen


def test_what_is_somebody_elses_or_leads_elsewhere_is_not_touched(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "valkey").symlink_to(data.parent)
    data.parent.chmod(0o777)
    assert list(FolderModes(data).mend()) == []
    (data / "master.key").chmod(0o644)
    monkeypatch.setattr(folder_modes.os, "geteuid", lambda: os.getuid() + 1)
    assert list(FolderModes(data).mend()) == []
    assert mode(data / "master.key") == 0o644
