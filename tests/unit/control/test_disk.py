"""When the disk of the data folder counts as full, and in which words."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from botctl.control.watching.disk import DiskWatch, disks, shortage

DATA = Path("/data")
MB = 1_000_000


def disk(free_mb: float, size_mb: float, *, files: int = 10**6, free_files: int = 10**5) -> Any:
    return SimpleNamespace(
        f_frsize=4000, f_bavail=int(free_mb * 250), f_blocks=int(size_mb * 250), f_files=files, f_favail=free_files
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (disk(65, 1000), None),
        (disk(63, 1000), "disk: 63 MB free of 1000 MB where /data is; make room there"),
        (disk(0, 1000), "disk: 0 MB free of 1000 MB where /data is; make room there"),
        (disk(99, 10_000), "disk: 99 MB free of 10000 MB where /data is; make room there"),
        (disk(101, 10_000), None),
        (disk(1001, 10_000_000), None),  # a share of a huge disk is room enough
        (disk(999, 10_000_000), "disk: 999 MB free of 10000000 MB where /data is; make room there"),
        (disk(500, 1000, free_files=999), "disk: room for 999 more files where /data is; make room there"),
        (disk(500, 1000, files=0, free_files=0), None),  # btrfs counts none
    ],
)
def test_what_counts_as_short(found: Any, words: str | None) -> None:
    assert shortage(found, DATA) == words


async def test_a_problem_comes_and_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path)
    for found, problem in ((disk(1, 1000), True), (disk(900, 1000), False)):
        monkeypatch.setattr(os, "statvfs", lambda folder, found=found: found)
        await watch.look()
        assert (watch.problem is not None) is problem
    monkeypatch.undo()
    gone = DiskWatch(tmp_path / "gone")
    await gone.look()
    assert gone.problem == f"disk: {tmp_path}/gone can't be looked at: No such file or directory"


def test_a_part_on_another_disk_is_looked_at_too(tmp_path: Path) -> None:
    assert disks(tmp_path) == [tmp_path]
    (tmp_path / "run").mkdir()
    assert disks(tmp_path) == [tmp_path]  # the same disk
    other = next(path for path in (Path("/dev/shm"), Path("/proc")) if path.stat().st_dev != tmp_path.stat().st_dev)
    (tmp_path / "logs").symlink_to(other)
    assert disks(tmp_path) == [tmp_path, tmp_path / "logs"]
