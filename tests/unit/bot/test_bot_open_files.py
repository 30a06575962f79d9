"""When a bot says that it can open nothing any more."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from botctl.bot.vitals import open_files
from botctl.bot.vitals.health import Health, Trouble

LIMIT = 200


@pytest.fixture
def limit() -> Iterator[int]:
    """Of this process: it has more than are open, and fewer than it takes long to open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + LIMIT
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_bot_is_out_of_open_files_shortly_before_the_last(limit: int) -> None:
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(2))
        assert open_files.shortage().startswith(f"out of open files: its limit of {limit} is reached")
        for _ in range(open_files.SPARE - 1):
            os.close(held.pop())
        assert open_files.shortage()
        os.close(held.pop())
        for _ in range(3):
            assert open_files.shortage() == "", "asking takes none away"
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_what_follows_from_it_is_not_told_as_well() -> None:
    health = Health()
    health.trouble(Trouble.REDIS, "redis is not reachable")
    health.trouble(Trouble.DATABASE, "the database is away")
    health.trouble(Trouble.CONFLICT, "another process polls")
    health.trouble(Trouble.OPEN_FILES, "out of open files")
    assert health.reason == "out of open files; another process polls"
    assert health.paused
    health.well(Trouble.OPEN_FILES)
    assert health.reason == "the database is away; redis is not reachable; another process polls"
