"""A stage for `control`'s keepers: real servers, with a double in the supervisor's place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect as connect_redis
from botctl.bus.topology import Topology
from botctl.control.bus.keeper import BusKeeper
from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.fleet.wanted import Surroundings, without_userinfo
from botctl.control.ports import BotSight, FleetSight, Passwords, WantedFleet
from botctl.fleet import BotSpec, Fleet
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage.engine import connect, login_engine

NOWHERE = DatabaseTarget(host="127.0.0.1", port=1)


class SupervisorDouble:
    """Takes what is wanted; shows the bots it was last told of, and `lingering` ones still ending."""

    def __init__(self) -> None:
        self.desired: list[WantedFleet] = []
        self.rotated: list[tuple[int, Passwords]] = []
        self.acknowledged: list[int] = []
        self.commands: list[tuple[str, str]] = []
        self.lingering: set[int] = set()
        self.shut_away: dict[int, str] = {}

    def desire(self, fleet: WantedFleet) -> None:
        self.desired.append(fleet)

    def rotate(self, bot_id: int, passwords: Passwords) -> None:
        self.rotated.append((bot_id, passwords))

    def wake(self, bot_id: int) -> None:
        pass

    def recorded(self, seq: int) -> None:
        self.acknowledged.append(seq)

    def hear(self, bot_id: int, deaf: bool, reason: str = "") -> None:
        pass

    async def sight(self) -> FleetSight:
        bots = {bot.bot_id: bot.name for bot in self.desired[-1].bots} if self.desired else {}
        bots |= dict.fromkeys(self.lingering, "leaving")
        seen = tuple(BotSight(name=name, bot_id=bot_id, state="running") for bot_id, name in bots.items())
        seen += tuple(
            BotSight(name=name, bot_id=bot_id, state="quarantined", reason="seen", shut_away=True)
            for bot_id, name in self.shut_away.items()
        )
        return FleetSight(pid=1, state="running", started_at=time.time(), generation=0, bots=seen)

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        self.commands.append((verb, name))
        return True, ""

    @property
    def passwords(self) -> dict[int, Passwords]:
        return {bot.bot_id: bot.passwords for fleet in self.desired for bot in fleet.bots if bot.passwords is not None}


new_ids = iter(range(41_000, 60_000))


def bot(name: str, number: int | None = None, **more: Any) -> BotSpec:
    return BotSpec.model_validate({"name": name, "token": f"{number or next(new_ids)}:abc", **more})


def around(target: DatabaseTarget, redis_url: str) -> Surroundings:
    return Surroundings(target, without_userinfo(redis_url), "botctl", "https://telegram", "", "", "json")


async def eventually(condition: Callable[[], Awaitable[bool]], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


class Stage:
    """One control's keepers over one database and one namespace."""

    def __init__(self, login: DatabaseLogin, redis_url: str, namespace: str) -> None:
        self.login = login
        self.redis_url = redis_url
        self.topology = Topology(namespace)
        self.engine: AsyncEngine = login_engine(login)
        self.redis: Redis = connect_redis(redis_url)
        self.bus = BusKeeper(BusAdmin(self.redis, self.topology))
        self.supervisor = SupervisorDouble()
        self.keeper = FleetKeeper(self.engine, self.bus, self.supervisor, around(login.target, redis_url))

    async def apply(self, *bots: BotSpec) -> Any:
        return await self.keeper.apply(Fleet(bots=bots), FleetSource())

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.exec_driver_sql(sql)]

    async def can_log_in(self, bot_id: int) -> bool:
        passwords = self.supervisor.passwords[bot_id]
        try:
            connection = await connect(
                DatabaseLogin(target=self.login.target, user=f"bot_{bot_id}", password=passwords.database)
            )
        except Exception:
            return False
        await connection.close()
        return True

    async def has_redis_user(self, bot_id: int, passwords: Passwords | None = None) -> bool:
        passwords = passwords or self.supervisor.passwords[bot_id]
        user = self.topology.user(bot_id)
        client = connect_redis(without_userinfo(self.redis_url), username=user, passwords=lambda: (passwords.redis,))
        try:
            return bool(await client.ping())
        except AuthenticationError:
            return False
        finally:
            await client.aclose()

    async def close(self) -> None:
        await self.redis.aclose()
        await self.engine.dispose()
