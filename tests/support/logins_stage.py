"""Logins of many bots on both servers, made, used and dropped by the code that does it; and what is left of them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.events import Event, Log, encode_event
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.handover import DatabaseLogin
from botctl.storage import logins, scram
from botctl.storage.engine import connect as connect_database
from botctl.storage.engine import login_engine

FIRST = 8_100_000_001
USED_OF = 10
"""One bot in so many uses its logins before they are dropped."""

_CATALOGUES = {
    "roles": "SELECT rolname || coalesce(' ' || shobj_description(oid, 'pg_authid'), '') FROM pg_roles",
    "comments": "SELECT objoid || ' ' || description FROM pg_shdescription WHERE classoid = 'pg_authid'::regclass",
    "settings of roles": "SELECT setdatabase || ' ' || setrole || ' ' || setconfig::text FROM pg_db_role_setting",
    "memberships": "SELECT roleid || ' ' || member || ' ' || grantor FROM pg_auth_members",
    "dependencies": "SELECT concat_ws(' ', dbid, classid, objid, refclassid, refobjid, deptype) FROM pg_shdepend",
    "default rights": "SELECT d::text FROM pg_default_acl d",
    "policies": "SELECT polname || ' ' || polrelid || ' ' || polroles::text FROM pg_policy",
    "rights": """
        SELECT 'table ' || oid || relacl::text FROM pg_class WHERE relacl IS NOT NULL
        UNION ALL SELECT 'column ' || attrelid || attacl::text FROM pg_attribute WHERE attacl IS NOT NULL
        UNION ALL SELECT 'function ' || oid || proacl::text FROM pg_proc WHERE proacl IS NOT NULL
        UNION ALL SELECT 'schema ' || oid || nspacl::text FROM pg_namespace WHERE nspacl IS NOT NULL
        UNION ALL SELECT 'database ' || oid || datacl::text FROM pg_database WHERE datacl IS NOT NULL
        UNION ALL SELECT 'type ' || oid || typacl::text FROM pg_type WHERE typacl IS NOT NULL
        UNION ALL SELECT 'parameter ' || oid || paracl::text FROM pg_parameter_acl
        UNION ALL SELECT 'initial ' || objoid || initprivs::text FROM pg_init_privs""",
    "owned": "SELECT oid || ' ' || relowner FROM pg_class",
    "logins": "SELECT bot_id::text FROM botctl_admin.logins",
    "sessions": "SELECT usename FROM pg_stat_activity WHERE usename LIKE 'bot\\_%'",
}


@dataclass(frozen=True)
class Figures:
    """Seconds for all."""

    made: float
    used: float
    dropped: float


class Logins:
    """`administrator` looks, `control` and `admin` do."""

    def __init__(self, administrator: DatabaseLogin, control: DatabaseLogin, admin: BusAdmin, url: str) -> None:
        self._administrator = administrator
        self._control = control
        self._admin = admin
        self._url = url
        self._fleet: dict[int, tuple[str, ...]] = {}

    async def begin(self) -> None:
        """What the fleet has before any bot: the logs, and the file of users as the server itself writes it."""
        await self._admin.ensure_logs()
        await self._admin.save_users()
        for log in Log:
            await self._admin.redis.xadd(self._admin.topology.log(log), {"e": b"{}"})

    async def traces(self, users_file: Path) -> dict[str, frozenset[str]]:
        """All that a login leaves in the catalogues of both servers while it is there."""
        connection = await connect_database(self._administrator)
        try:
            found = {
                name: frozenset(str(row[0]) for row in await connection.fetch(sql)) for name, sql in _CATALOGUES.items()
            }
        finally:
            await connection.close()
        redis: Any = self._admin.redis
        found["redis users"] = frozenset(map(str, await redis.acl_list()))
        found["redis users' file"] = frozenset(users_file.read_text().splitlines())
        found["redis keys"] = frozenset([str(key) async for key in redis.scan_iter(count=1000)])
        found["redis connections"] = frozenset(
            client["user"] for client in await redis.client_list() if client["user"] != "default"
        )
        return found

    async def make_and_drop(self, count: int) -> Figures:
        """All of them exist at once, and one in ten is used."""
        bots = range(FIRST, FIRST + count)
        engine = login_engine(self._control, pool_size=2)
        router = Router(self._admin.redis, self._admin.topology, lambda: Roster.of(self._fleet))
        routing = asyncio.create_task(router.run())
        try:
            began = time.monotonic()
            passwords = await self._make(engine, bots)
            made = time.monotonic()
            used = [bot for bot in bots if (bot - FIRST) % USED_OF == 0]
            for bot in used:
                await self._use(bot, *passwords[bot])
            while router.stats.routed < len(used):
                assert time.monotonic() - made < 60, "events are not routed"
                await asyncio.sleep(0.01)
            done = time.monotonic()
            self._fleet = {}
            for bot in bots:
                async with engine.begin() as connection:
                    assert await logins.drop_login(connection, bot)
                await self._admin.drop_bot(bot)
            return Figures(made - began, done - made, time.monotonic() - done)
        finally:
            routing.cancel()
            await asyncio.gather(routing, return_exceptions=True)
            await engine.dispose()

    async def _make(self, engine: AsyncEngine, bots: range) -> dict[int, tuple[str, str]]:
        passwords = {bot: (scram.new_password(), secrets.token_urlsafe(24)) for bot in bots}
        for bot in bots:
            async with engine.begin() as connection:
                await logins.ensure_login(connection, bot, passwords[bot][0])
        await self._admin.ensure_bots({bot: [_digest(redis)] for bot, (_, redis) in passwords.items()})
        self._fleet = dict.fromkeys(bots, ("custom.*",))
        return passwords

    async def _use(self, bot: int, database_password: str, redis_password: str) -> None:
        """Log in to both, leave a setting of its own, publish; the connections are open when the login is dropped."""
        target = self._control.target
        login = DatabaseLogin(target=target, user=f"bot_{bot}", password=database_password)
        connection = await connect_database(login)
        await connection.execute(f"ALTER ROLE bot_{bot} SET work_mem = '1MB'")
        topology = self._admin.topology
        client = connect(self._url, username=topology.user(bot), passwords=lambda: (redis_password,))
        event = Event(id=str(bot), type="custom.tick", occurred_at=time.time())
        await client.xadd(topology.out(bot), {"e": encode_event(event)})
        connection.terminate()
        await client.aclose()


def difference(before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    """What is not as it was, by place."""
    return {name: sorted(before[name] ^ after[name]) for name in before if before[name] != after[name]}


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
