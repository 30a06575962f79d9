"""Watches the room on the disks of the data folder: databases that can't write any more don't say so while they rest.

Logs and the servers' folders may lie on file systems of their own; each of these is looked at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

_log = structlog.get_logger("botctl.control.watching.disk")

CHECK_EVERY = 5.0

_MB = 1_000_000
FEW_BYTES = 64 * _MB
"""Free room below which it is told: a PostgreSQL that is busy writes as much in seconds."""
SHARE = 0.01
"""The share of the disk below which it is told as well, but no more than ENOUGH_BYTES."""
ENOUGH_BYTES = 1000 * _MB
FEW_FILES = 1000

_PARTS = ("logs", "run", "bots", "postgres/data", "postgres/data/pg_wal", "valkey/data")
"""What below the data folder may be a mount or a link to another disk."""


class DiskWatch:
    """`problem` is None while there is room. What belongs to the superuser alone isn't counted as room."""

    def __init__(self, folder: Path) -> None:
        self.problem: str | None = None
        self._folder = folder

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(CHECK_EVERY)

    async def look(self) -> None:
        """Look once; in a thread, as a network disk may keep whoever asks waiting."""
        try:
            found = await asyncio.to_thread(shortages, self._folder)
        except OSError as error:
            found = [f"disk: {self._folder} can't be looked at: {error.strerror}"]
        problem = "; ".join(found) or None
        if problem is not None and self.problem is None:
            _log.warning("the disk is full, or nearly", reason=problem)
        elif problem is None and self.problem is not None:
            _log.info("there is room on the disk again")
        self.problem = problem


def shortages(folder: Path) -> list[str]:
    """What is short on the disks of a data folder, in words. Raises OSError when the folder can't be looked at."""
    found = [shortage(os.statvfs(place), place) for place in disks(folder)]
    return [problem for problem in found if problem is not None]


def disks(folder: Path) -> Sequence[Path]:
    """The data folder, and what of it lies on another file system. Raises OSError when the folder isn't there."""
    places = {folder.stat().st_dev: folder}
    for part in _PARTS:
        try:
            places.setdefault((folder / part).stat().st_dev, folder / part)
        except OSError:  # not made yet, or not ours to look into
            continue
    return list(places.values())


def shortage(found: os.statvfs_result, folder: Path) -> str | None:
    """What is short, in words; None when nothing is."""
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free < max(FEW_BYTES, min(ENOUGH_BYTES, SHARE * size)):
        return f"disk: {free // _MB} MB free of {size // _MB} MB where {folder} is; make room there"
    if found.f_files and found.f_favail < FEW_FILES:
        return f"disk: room for {found.f_favail} more files where {folder} is; make room there"
    return None
