"""Logins of many bots, made and dropped without trace: `benchmarks/logins.py [BOTS]`.

On embedded servers of its own makes BOTS (500) roles and Redis users, uses one in ten, drops all, and compares what
stands in the catalogues of both servers with what stood there before. Ends with 1 if anything is left.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.topology import Topology
from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.embedded.valkey import prepare_valkey
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import parse_database_url
from integration.conftest import RunningServer, server_folder
from support.logins_stage import USED_OF, Logins, difference


async def run(bots: int, database_url: str, redis_url: str, users_file: Path) -> int:
    """Make, use, drop, compare, tell."""
    control = (await prepare(database_url)).control
    redis = connect(redis_url, blocking=True)
    stage = Logins(
        parse_database_url(database_url), control, BusAdmin(redis, Topology("botctl"), keeps_users=True), redis_url
    )
    await stage.begin()
    before = await stage.traces(users_file)
    figures = await stage.make_and_drop(bots)
    after = await stage.traces(users_file)
    await redis.aclose()
    print(f"{bots} roles and Redis users: made in {figures.made:.1f} s ({figures.made / bots * 1000:.1f} ms each),")
    print(f"one in {USED_OF} used in {figures.used:.1f} s, dropped in {figures.dropped:.1f} s "
          f"({figures.dropped / bots * 1000:.1f} ms each)")  # fmt: skip
    left = difference(before, after)
    print(f"compared: {', '.join(f'{name} ({len(found)})' for name, found in after.items())}")
    print(f"left behind: {left or 'nothing'}")
    return 1 if left else 0


def main() -> int:
    """Servers of its own, ended with it."""
    bots = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with server_folder() as folder:
        database, valkey = prepare_postgres(folder / "postgres", max_connections=60), prepare_valkey(folder / "valkey")
        servers = []
        try:
            servers.append(RunningServer(database.spec, lambda: ping_postgres(database.admin_url)))
            servers.append(RunningServer(valkey.spec, lambda: ping_valkey(valkey.admin_url)))
            users_file = folder / "valkey/users/users.acl"
            return asyncio.run(run(bots, database.admin_url, valkey.admin_url, users_file))
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    sys.exit(main())
