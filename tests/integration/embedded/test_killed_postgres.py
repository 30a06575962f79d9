"""A PostgreSQL that is killed comes back by itself, whatever of it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from botctl.embedded.disks import sync_method
from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres
from botctl.storage.bootstrap import checkpoint
from botctl.storage.engine import connect, parse_database_url

AGES = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"
"""Computes for days and never waits, so that it doesn't notice that its server is gone."""


def _runs(pid: int) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("postgres")
    except OSError:
        return False


async def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def _database(url: str) -> Any:
    return parse_database_url(url.replace("/botctl?", "/postgres?"))


async def test_who_computes_for_a_killed_server_does_not_hold_off_the_next(server_files: Path, supervised: Any) -> None:
    made = prepare_postgres(server_files / "postgres", max_connections=10)
    server = supervised(made.spec, made.admin_url)
    connection = await connect(_database(made.admin_url))
    worker = await connection.fetchval("SELECT pg_backend_pid()")
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    work = asyncio.create_task(connection.fetchval(AGES))
    used = _ticks(worker)
    await _until(lambda: _ticks(worker) > used + 20, "the query has begun")
    server.kill()
    assert _runs(worker), "nothing would be held off: the test has lost its point"
    await asyncio.to_thread(server.start)
    assert not _runs(worker)
    assert "pre-existing shared memory block" not in server.output()
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await work
    again = await connect(_database(made.admin_url))
    assert await again.fetchval("SELECT x FROM kept") == 42
    await again.close()


def _ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_nobody_else_is_ended_for_it(server_files: Path, supervised: Any, postgres_admin_url: str) -> None:
    made = prepare_postgres(server_files / "postgres", max_connections=10)
    server = supervised(made.spec, made.admin_url)
    with contextlib.ExitStack() as ends:
        # Somebody looks around in the folder, and the session's own server is another child of ours of that program.
        visitor = ends.enter_context(subprocess.Popen(["sleep", "600"], cwd=server_files / "postgres" / "data"))
        ends.callback(visitor.kill)
        server.kill()
        server.start()
        assert visitor.poll() is None
        assert ping_postgres(postgres_admin_url)


async def test_it_syncs_as_its_file_system_allows_and_nothing_else_is_left_out(new_postgres: Any) -> None:
    connection = await connect(_database(new_postgres.admin_url))
    shown = {
        name: await connection.fetchval(f"SHOW {name}")
        for name in ("recovery_init_sync_method", "fsync", "full_page_writes", "synchronous_commit")
    }
    await connection.close()
    assert shown == {
        "recovery_init_sync_method": sync_method(new_postgres.folder / "data"),
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
    }


async def test_after_a_checkpoint_nothing_of_before_is_recovered(new_postgres: Any) -> None:
    url = new_postgres.admin_url.replace("/botctl?", "/postgres?")
    connection = await connect(_database(url))
    await connection.execute("CREATE TABLE made_by_setup AS SELECT generate_series(1, 1000)")
    before = await connection.fetchval("SELECT pg_current_wal_lsn()")
    assert not await connection.fetchval("SELECT redo_lsn >= $1 FROM pg_control_checkpoint()", before)
    await checkpoint(url)
    assert await connection.fetchval("SELECT redo_lsn >= $1 FROM pg_control_checkpoint()", before)
    await connection.close()


async def test_that_a_checkpoint_is_not_to_be_had_is_no_failure() -> None:
    await checkpoint("postgresql://postgres:x@127.0.0.1:1/postgres?sslmode=disable")
