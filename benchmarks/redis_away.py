"""Redis away for an hour under load, back with its data, then lost and back empty: `benchmarks/redis_away.py [--bots N]
[--events N] [--json FILE]`.

Real servers; each bot's relay and control's keeper, router and resender in processes of their own, over real outboxes.
The hour is what it leaves behind: so many rows in the outboxes (200,000). Prints how long each catching-up takes, what
the log has then (missing, twice, out of order), and by how much processes and Redis have grown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from rounds import table

from botctl.bus.client import AWAY, connect
from botctl.bus.events import Log
from botctl.bus.topology import Topology
from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.embedded.valkey import prepare_valkey
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import connect as connect_database
from botctl.storage.engine import parse_database_url
from botctl.storage.url import format_database_url
from integration.conftest import Database, RunningServer, server_folder
from support import redis_away
from support.redis_away import Account, Bot, Control, account, hashed, publish

FIRST = 7_900_000_001
NAMESPACE = "away"
PATIENCE = 900.0


class Watched:
    """A process, and how much memory it had when it was at rest, and at most."""

    def __init__(self, kind: str, part: Bot | Control, log: IO[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, redis_away.__file__, kind],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "tests")},
            stdin=subprocess.PIPE,
            stdout=log,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(redis_away.config(part))  # it holds passwords: not for the command line
        self.process.stdin.close()
        self.rest = 0.0

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

    def settle(self) -> None:
        """What it has now is what it has at rest."""
        self.rest = self._status("VmRSS:")
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the most from here on

    @property
    def growth(self) -> float:
        """Megabytes beyond the rest, at most."""
        return self._status("VmHWM:") - self.rest

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


async def caught_up(url: str, expected: dict[int, int]) -> tuple[float, Account, int]:
    """Seconds until the log has all of it, the account, and Redis's memory in megabytes."""
    redis, stream, began = connect(url), Topology(NAMESPACE).log(Log.BOT), time.monotonic()
    try:
        while True:
            try:
                if await redis.xlen(stream) >= sum(expected.values()):
                    break
            except AWAY:
                pass
            if time.monotonic() - began > PATIENCE:
                break
            await asyncio.sleep(0.1)
        taken = time.monotonic() - began
        peak = int((await redis.info("memory"))["used_memory_peak"]) >> 20
        return taken, await account(redis, NAMESPACE, expected), peak
    finally:
        await redis.aclose()


async def measure(bots: int, events: int) -> dict[str, Any]:
    """Both ways of coming back."""
    with server_folder() as folder:
        postgres = prepare_postgres(folder / "postgres", max_connections=60 + 4 * bots)
        database_server = RunningServer(postgres.spec, lambda: ping_postgres(postgres.admin_url))
        # All of the events fit into a log's share, so that the account can be given.
        valkey = prepare_valkey(folder / "valkey", max_memory_mb=4096)
        server = RunningServer(valkey.spec, lambda: ping_valkey(valkey.admin_url))
        watched: list[Watched] = []
        try:
            control_login = (await prepare(postgres.admin_url)).control
            database = Database(parse_database_url(postgres.admin_url), control_login)
            admin = await connect_database(database.admin)
            parts = []
            for bot_id in range(FIRST, FIRST + bots):
                await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", bot_id, f"bot-{bot_id}")
                login = format_database_url(await database.add_bot(bot_id))
                parts.append(Bot(bot_id, login, valkey.admin_url, NAMESPACE, secrets.token_urlsafe(16)))
            await admin.close()
            hashes = {str(part.bot_id): hashed(part.password) for part in parts}
            login = format_database_url(database.control)
            with (folder / "log").open("w") as log:
                watched = [Watched("control", Control(login, valkey.admin_url, NAMESPACE, hashes), log)]
                watched += [Watched("bot", part, log) for part in parts]
            warm = 20
            for part in parts:
                await publish(part, 0, warm)
            await caught_up(valkey.admin_url, {part.bot_id: warm for part in parts})
            server.stop(9)
            each = events // bots
            await asyncio.gather(*(publish(part, warm, each - warm) for part in parts))
            for one in watched:
                one.settle()
            expected = {part.bot_id: each for part in parts}
            server = RunningServer(valkey.spec, lambda: ping_valkey(valkey.admin_url))
            figures = {"back with its data": await caught_up(valkey.admin_url, expected)}
            grown = {"back with its data": [one.growth for one in watched]}
            server.stop(9)
            shutil.rmtree(folder / "valkey/data/appendonlydir")
            for one in watched:
                one.settle()
            server = RunningServer(valkey.spec, lambda: ping_valkey(valkey.admin_url))
            figures["back empty"] = await caught_up(valkey.admin_url, expected)
            grown["back empty"] = [one.growth for one in watched]
        finally:
            for one in watched:
                one.end()
            server.stop()
            database_server.stop()
    return {
        name: {
            "seconds": taken,
            **asdict(made),
            "redis_mb": peak,
            "control_mb": grown[name][0],
            "bot_mb": max(grown[name][1:]),
        }
        for name, (taken, made, peak) in figures.items()
    }


def show(found: dict[str, Any]) -> str:
    """As Markdown."""
    rows = [
        [
            name,
            f"{one['seconds']:.0f}",
            *(f"{one[part]:,}" for part in ("found", "missing", "twice", "disordered")),
            *(f"{one[part]:.0f}" for part in ("control_mb", "bot_mb", "redis_mb")),
        ]
        for name, one in found.items()
    ]
    header = ("Redis is", "s to catch up", "in the log", "missing", "twice", "out of order", "control grew by MB",
              "a bot grew by MB", "Redis at most MB")  # fmt: skip
    return table(header, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=8)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    made = asyncio.run(measure(arguments.bots, arguments.events))
    print(show(made))
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=2))
