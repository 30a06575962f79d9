"""A database that hangs instead of refusing: whoever commands something is told soon, and nothing is done later."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from botctl.control.defence.audit_desk import AuditDesk
from botctl.control.defence.quarantine import Quarantine
from botctl.control.fleet.applied import FleetSource
from botctl.control.prices import Prices
from botctl.control.pulse import ANSWER, DatabaseSilentError, Pulse
from botctl.control.secrets.desk import VaultDesk
from botctl.control.secrets.master_rotation import MasterRotation
from botctl.control.service import Service
from botctl.control.tracing.dead_letter_desk import DeadLetterDesk
from botctl.control.tracing.desk import TraceDesk
from botctl.control.tracing.room import DeskRoom
from botctl.control.tracing.send_desk import SendDesk
from botctl.control.trouble import DatabaseAwayError
from botctl.fleet import Fleet
from botctl.security.master_keys import new_keys
from botctl.storage.bootstrap import prepare
from botctl.storage.sealing import UNSEALED
from support.fleet_stage import Stage, bot

ONE = bot("one", 61_001)
TWO = bot("two", 61_002)


@contextmanager
def hung(server: Any) -> Iterator[None]:
    """Every process of the server stands still."""
    first = server.process.pid
    found = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True, check=True)
    pids = [first, *map(int, found.stdout.split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Commanded:
    """What an operator may ask, over a server of this test's own."""

    def __init__(self, stage: Stage, server: Any, folder: Path) -> None:
        self.stage, self.server = stage, server
        stage.keeper.vault.masters, stage.keeper.vault.loaded = new_keys(), False
        self.quarantine = Quarantine(stage.engine, stage.keeper, stage.supervisor)
        rotation = MasterRotation(stage.engine, stage.keeper.vault, folder, stage.keeper.hold)
        rollouts: Any = type("NoRollout", (), {"refuse_beside": lambda self, what: None, "running": False})()
        vault = VaultDesk(stage.engine, stage.keeper, rotation, rollouts, "http://127.0.0.1:1")
        given: Any = dict.fromkeys(
            ("database", "historian", "topology", "streams", "router_stats", "telegram_pending", "starts", "threats")
        )
        self.service = Service(
            keeper=stage.keeper,
            supervisor=stage.supervisor,
            engine=stage.engine,
            problems=list,
            version="1",
            rollouts=rollouts,
            vault=vault,
            quarantine=self.quarantine,
            **given,
        )
        self.audit = AuditDesk(stage.engine, folder, {}, dict)
        room = DeskRoom(
            stage.engine, stage.keeper.vault, lambda: {ONE.bot_id: "one"}, stage.supervisor.sight, lambda *_: None
        )
        self.traces = TraceDesk(room, Prices({}))
        self.letters = DeadLetterDesk(room, given["topology"], lambda _: None)
        self.sends = SendDesk(room, lambda: stage.keeper.fleet, lambda _: UNSEALED, lambda _: None)


@pytest.fixture
async def commanded(new_postgres: Any, valkey_admin_url: str, tmp_path: Path) -> AsyncIterator[Commanded]:
    login = (await prepare(new_postgres.admin_url)).control
    stage = Stage(login, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    made = Commanded(stage, new_postgres.server, tmp_path)
    await stage.apply(ONE, TWO)
    await made.quarantine.shut(TWO.bot_id, "two", by="operator", reason="a test")
    try:
        yield made
    finally:
        for bot_id in list(stage.bus.hashes):
            await stage.bus.drop(bot_id)
        await stage.close()


ASKED: dict[str, Callable[[Commanded], Any]] = {
    "apply": lambda on: on.service.apply(Fleet(bots=(ONE,)), fleet_path=None, fleet_env={}, dry_run=False),
    "release": lambda on: on.service.command("release", "two"),
    "rotate-bot": lambda on: on.service.rotate_bot("one"),
    "rotate-credentials": lambda on: on.service.rotate_credentials("one"),
    "rotate-master": lambda on: on.service.rotate_master(""),
    "secrets": lambda on: on.service.secrets(),
    "psql": lambda on: on.service.psql_login("one"),
    "runs": lambda on: on.service.runs(None, 1),
    "audit search": lambda on: on.audit.search(None, {}, 1),
    "audit tail": lambda on: on.audit.follow(None, {}),
    "audit verify": lambda on: on.audit.verify(),
    "trace": lambda on: on.traces.trace("update:1", "one", text=False, operator=""),
    "trace --chat": lambda on: on.traces.chat("one", 5, 10, text=False, operator=""),
    "dead-letters list": lambda on: on.letters.list(None, None, None, False, 10),
    "dead-letters show": lambda on: on.letters.show("one/1", text=False, operator=""),
    "dead-letters retry": lambda on: on.letters.retry([], "one", operator=""),
    "dead-letters drop": lambda on: on.letters.drop(["one/1"], None, operator=""),
    "send": lambda on: on.sends.send("one", [5], "hello", None, {}),
    "send --wait": lambda on: on.sends.sent("one", ["1"]),
}


async def _everything(stage: Stage) -> list[list[tuple[Any, ...]]]:
    tables = {
        "inbox": "cause",
        "bots": "name, quarantine, removed_at",
        "bot_keys": "key_id",
        "bot_credentials": "generation",
    }
    return [await stage.rows(f"SELECT bot_id, {what} FROM {table} ORDER BY 1, 2") for table, what in tables.items()]


async def test_every_command_is_refused_in_time_and_none_is_done_later(commanded: Commanded) -> None:
    before = await _everything(commanded.stage)
    audited = await commanded.stage.rows("SELECT count(*) FROM audit_log")
    with hung(commanded.server):
        for name, ask in ASKED.items():
            began = time.monotonic()
            with pytest.raises(DatabaseAwayError, match="no answer in time"):
                await asyncio.wait_for(ask(commanded), 20)
            assert time.monotonic() - began < ANSWER + 1.0, name
    keeper = asyncio.create_task(commanded.stage.keeper.run())  # what would do it later
    try:
        await commanded.service.runs(None, 1)
        assert not [bot_id for bot_id in (ONE.bot_id,) if commanded.stage.keeper.credentials.lacks(bot_id)]
        assert await _everything(commanded.stage) == before
        assert await commanded.stage.rows("SELECT count(*) FROM audit_log") == audited
        assert commanded.stage.keeper.fleet == Fleet(bots=(ONE, TWO))
        assert TWO.bot_id in commanded.stage.keeper.shut
    finally:
        keeper.cancel()


async def test_what_a_silent_database_interrupts_is_given_up_and_said_so(
    commanded: Commanded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botctl.control.pulse.LOOK_EVERY", 0.1)
    monkeypatch.setattr("botctl.control.pulse.SILENCE", 0.5)
    pulse, stage, begun = Pulse(commanded.stage.engine), commanded.stage, asyncio.Event()

    async def work() -> None:
        async with stage.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE bots SET name = 'done' WHERE bot_id = $1", (ONE.bot_id,))
            begun.set()
            await connection.exec_driver_sql("SELECT pg_sleep(2)")

    doing = asyncio.create_task(pulse.within(work()))
    await begun.wait()
    with hung(commanded.server), pytest.raises(DatabaseSilentError):
        await asyncio.wait_for(doing, 10)
    assert await stage.rows(f"SELECT name FROM bots WHERE bot_id = {ONE.bot_id}") == [("one",)]


async def test_slow_work_has_all_the_time_it_needs(commanded: Commanded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botctl.control.pulse.LOOK_EVERY", 0.1)
    monkeypatch.setattr("botctl.control.pulse.SILENCE", 0.5)
    slow = commanded.stage.rows("SELECT 1 FROM pg_sleep(1.5)")
    assert await Pulse(commanded.stage.engine).within(slow) == [(1,)]


async def test_a_release_that_failed_leaves_the_bot_to_be_shut_away(commanded: Commanded) -> None:
    commanded.quarantine._open[TWO.bot_id] = "two"  # not complete yet
    await commanded.stage.engine.dispose()
    with hung(commanded.server):
        release = asyncio.create_task(commanded.quarantine.release(TWO.bot_id, "two"))
        await asyncio.wait({release}, timeout=0.5)
        release.cancel()
        await asyncio.wait({release}, timeout=5.0)
    assert commanded.quarantine._open == {TWO.bot_id: "two"}
    assert TWO.bot_id in commanded.stage.keeper.shut


async def test_applying_again_afterwards_does_it(commanded: Commanded) -> None:
    with hung(commanded.server), pytest.raises(DatabaseAwayError):
        await commanded.service.rotate_credentials("one")
    assert "new passwords" in (await commanded.service.rotate_credentials("one")).message
    assert (await commanded.stage.keeper.apply(Fleet(bots=(ONE,)), FleetSource())).removed == ["two"]
