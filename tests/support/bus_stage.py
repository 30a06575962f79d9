"""A stage for what operators do with the bus: real servers, the keepers of `control`, its API on a Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from botctl.api.app import create_app
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.grants import GrantAdmin
from botctl.bus.events import Event, Log, encode_event
from botctl.bus.topology import FIELD
from botctl.cli.main import app
from botctl.cli.note import process_started
from botctl.control.bus.desk import BusDesk
from botctl.control.bus.drop_teller import DropTeller
from botctl.control.bus.grant_keeper import GrantKeeper
from botctl.control.bus.keeper import BusKeeper
from botctl.control.bus.lag_watch import BusWatch
from botctl.control.fleet.wanted import without_userinfo
from botctl.control.serve import make_server, unix_socket
from botctl.handover import DatabaseLogin
from support.fleet_stage import Stage


class Notes:
    """In the place of the audit desk: keeps what was commanded."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str | None, dict[str, Any]]] = []

    def note(self, operator: str, action: str, entity: str, name: str | None, after: dict[str, Any]) -> None:
        self.taken.append((action, entity, name, after))


class BusStage(Stage):
    """The keepers of one fleet, with what looks after programs outside."""

    def __init__(self, login: DatabaseLogin, redis_url: str, namespace: str, *, keep_seconds: float = 86_400.0) -> None:
        super().__init__(login, redis_url, namespace)
        admin = self.bus._admin
        self.drops = DropTeller(self.engine, lambda: None, again_after=0.05)
        self.grants = GrantKeeper(self.engine, GrantAdmin(admin), lambda: self.watch.lags, self.drops.tell)
        self.bus = self.keeper._bus = BusKeeper(admin, also=self.grants.keep)
        self.keeper.credentials._bus = self.bus
        self.guard = GrantGuard(self.topology, self.grants.names, self.grants.sharing)
        self.watch = BusWatch(
            self.redis,
            self.topology,
            lambda: self.keeper.fleet,
            lambda: self.grants.grants,
            keep_seconds=keep_seconds,
            mailbox_limit=100,
            dropped=self.drops.entries,
        )
        from botctl.bus.client import connect

        self.desk = BusDesk(
            self.engine,
            lambda: connect(redis_url),
            self.topology,
            self.grants,
            GrantAdmin(admin),
            self.watch,
            self.guard,
            self.keeper.roster,
            self.bus.settle,
            without_userinfo(redis_url),
        )
        self.notes = Notes()

    async def put(self, log: Log, type_: str, source: str = "bot:5", *, n: int = 0, at: int | None = None) -> str:
        """An event in a log, as the router writes it; `at` in milliseconds."""
        event = Event(id=f"{type_}-{n}", type=type_, source=source, occurred_at=1.0, data={"n": n})
        made = await self.redis.xadd(
            self.topology.log(log), {FIELD: encode_event(event)}, id="*" if at is None else f"{at}-{n}"
        )
        return str(made.decode())

    @asynccontextmanager
    async def served(self, folder: Path) -> AsyncIterator[None]:
        """The API on the socket that commands with this data folder find."""
        (folder / "run").mkdir()
        socket = folder / "run/api.sock"
        server = make_server(create_app(self, bus=self.desk, audit=self.notes))  # type: ignore[arg-type]
        task = asyncio.create_task(server.serve(sockets=[unix_socket(socket)]))
        note = {
            "pid": os.getpid(), "process_started": process_started(os.getpid()), "started_at": 1.0, "version": "9.9",
            "state": "serving", "socket": str(socket), "data_dir": str(folder), "telegram_base_url": "http://x",
        }  # fmt: skip
        (folder / "run/daemon.json").write_text(json.dumps(note))
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            await task


async def command(folder: Path, *arguments: str) -> Any:
    """A command of botctl, beside the API that serves it."""
    return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--data-dir", str(folder)])


class Program:
    """A program outside: Python that is run as it was printed."""

    def __init__(self, text: str, folder: Path, **environment: str) -> None:
        file = folder / f"program{time.monotonic_ns()}.py"
        file.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | environment,
        )  # fmt: skip

    async def lines(self, count: int, timeout: float = 15.0) -> list[str]:
        """So many lines of what it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            return [await asyncio.to_thread(self.process.stdout.readline) for _ in range(count)]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
