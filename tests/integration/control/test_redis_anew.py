"""A Redis that comes back empty or with old data, with `control` killed at any moment: all is relayed, and in order."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.identity import Look, Loss
from botctl.bus.client import AWAY, connect
from botctl.bus.events import Log
from botctl.bus.topology import Topology
from botctl.control.bus.keeper import BusKeeper
from botctl.control.bus.resender import Resender
from botctl.embedded.valkey import prepare_valkey
from botctl.errors import BotctlError
from botctl.storage.engine import connect as connect_database
from botctl.storage.engine import login_engine
from botctl.storage.outbox import Outbox
from botctl.storage.url import format_database_url, parse_database_url
from support.fleet_stage import eventually
from support.redis_away import Account, Bot, Control, account, hashed, publish, run_bot, run_control

new_ids = iter(range(92_001, 99_000))


@dataclass
class Fleet:
    """Some bots of one namespace, with their relays, and one control."""

    control: Control
    bots: list[Bot]
    redis: Redis
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    keeping: asyncio.Task[None] | None = None

    @property
    def topology(self) -> Topology:
        return Topology(self.control.namespace)

    def start_control(self) -> None:
        self.keeping = asyncio.create_task(run_control(self.control))

    async def kill_control(self) -> None:
        assert self.keeping is not None
        self.keeping.cancel()
        await asyncio.gather(self.keeping, return_exceptions=True)

    async def publish(self, first: int, count: int) -> None:
        for bot in self.bots:
            await publish(bot, first, count)

    async def whole(self, count: int) -> Account:
        """The account, once the log has so many of each bot, or after 30 s."""
        log, wanted = self.topology.log(Log.BOT), count * len(self.bots)

        async def complete() -> bool:
            with contextlib.suppress(*AWAY):
                return int(await self.redis.xlen(log)) >= wanted
            return False

        with contextlib.suppress(AssertionError):
            await eventually(complete, timeout=30)
        return await account(self.redis, self.control.namespace, {bot.bot_id: count for bot in self.bots})

    async def forget(self) -> None:
        """The server's data of this namespace go; its users stay, as with FLUSHALL."""
        keys = [key async for key in self.redis.scan_iter(match=f"{self.control.namespace}:*", count=1000)]
        await self.redis.delete(*keys)


@asynccontextmanager
async def fleet_on(database: Any, url: str, size: int = 2, *, keeps_users: bool = False) -> AsyncIterator[Fleet]:
    namespace = f"t{secrets.token_hex(4)}"
    bots = []
    admin = await connect_database(database.admin)
    for _ in range(size):
        bot_id = next(new_ids)
        await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", bot_id, f"bot-{bot_id}")
        login = format_database_url(await database.add_bot(bot_id))
        bots.append(Bot(bot_id, login, url, namespace, secrets.token_urlsafe(16)))
    await admin.close()
    hashes = {str(bot.bot_id): hashed(bot.password) for bot in bots}
    control = Control(format_database_url(database.control), url, namespace, hashes, keeps_users)
    made = Fleet(control, bots, connect(url))
    made.tasks = [asyncio.create_task(run_bot(bot)) for bot in bots]
    try:
        yield made
    finally:
        tasks = [*made.tasks, *([made.keeping] if made.keeping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(*AWAY):
            await made.forget()
            await made.redis.acl_deluser(*[made.topology.user(bot.bot_id) for bot in bots])
        await made.redis.aclose()


def as_published(found: Account, events: int) -> bool:
    """All of them, none twice, none out of order."""
    return (found.found, found.missing, found.twice, found.disordered) == (events, 0, 0, 0)


class Killed(BaseException):
    """In the place of a kill: nothing of ours catches it."""


STEPS = ("look", "begin", "shut_out", "recover", "take_back", "ensure_logs", "ensure_bots", "know", "end")


def dying_keeper(fleet: Fleet, engine: Any, step: str) -> BusKeeper:
    """A control that dies just after the step; at `end` it doesn't."""

    def die(at: str) -> None:
        if at == step:
            raise Killed

    class Admin(BusAdmin):
        @asynccontextmanager
        async def look(self) -> AsyncIterator[Look]:
            async with super().look() as made:
                die("look")
                begin, know = made.begin, made.know

                async def begun() -> None:
                    await begin()
                    die("begin")

                async def known(now: float) -> Any:
                    if step == "know":  # just before: after it nothing is left to be done
                        raise Killed
                    return await know(now)

                made.begin, made.know = begun, known  # type: ignore[method-assign]
                yield made

        async def shut_out(self, bots: Any) -> None:
            await super().shut_out(bots)
            die("shut_out")

        async def ensure_logs(self) -> None:
            await super().ensure_logs()
            die("ensure_logs")

        async def ensure_bots(self, *wanted: Any) -> None:
            await super().ensure_bots(*wanted)
            die("ensure_bots")

    resender = Resender(engine, lambda: None)
    take_back = resender._take_back

    async def taken_back(redis: Redis, stream: str, bot_id: int) -> int:
        rows = await take_back(redis, stream, bot_id)
        die("take_back")
        return rows

    resender._take_back = taken_back  # type: ignore[method-assign]

    async def recover(loss: Loss) -> None:
        await resender.recover(loss, fleet.redis, fleet.topology)
        die("recover")

    keeper = BusKeeper(Admin(fleet.redis, fleet.topology), recover=recover)
    keeper.load({int(bot_id): digest for bot_id, digest in fleet.control.hashes.items()})
    return keeper


@pytest.mark.parametrize("step", STEPS)
async def test_a_control_that_dies_while_it_makes_an_emptied_server_again_leaves_all_to_the_next(
    database: Any, valkey_admin_url: str, step: str
) -> None:
    async with fleet_on(database, valkey_admin_url, 1) as fleet:
        fleet.start_control()
        await fleet.publish(0, 30)
        assert as_published(await fleet.whole(30), 30)
        await fleet.kill_control()
        await fleet.forget()
        await fleet.publish(30, 10)  # its relay runs on, and its user is still there
        if step == "take_back":
            await fleet.redis.xadd(fleet.topology.out(fleet.bots[0].bot_id), {"e": b"something"})
        engine = login_engine(parse_database_url(fleet.control.database_url), pool_size=2)
        try:
            with contextlib.suppress(Killed):
                assert await dying_keeper(fleet, engine, step).settle(10.0) is (step == "end")
        finally:
            await engine.dispose()
        fleet.start_control()
        found = await fleet.whole(40)
        assert (found.missing, found.disordered) == (0, 0)


async def test_nothing_new_gets_in_before_what_an_emptied_server_has_lost(database: Any, valkey_admin_url: str) -> None:
    async with fleet_on(database, valkey_admin_url) as fleet:
        fleet.start_control()
        await fleet.publish(0, 200)
        assert as_published(await fleet.whole(200), 400)
        for round_ in range(3):
            await fleet.forget()
            await fleet.publish(200 + 20 * round_, 20)
            assert as_published(await fleet.whole(220 + 20 * round_), 2 * (220 + 20 * round_))


class Server:
    """A Valkey whose data can be taken back to what they were."""

    def __init__(self, folder: Path, start: Callable[..., Any]) -> None:
        self._made = prepare_valkey(folder)
        self._data = folder / "data" / "appendonlydir"
        self._kept = folder / "kept"
        self._start = start
        self.url = self._made.admin_url
        self._running: Any = start(self._made.spec, self.url)

    def end(self) -> None:
        self._running.stop(9)

    def keep(self) -> None:
        subprocess.run(["cp", "-a", str(self._data), str(self._kept)], check=True)

    def take_back(self) -> None:
        shutil.rmtree(self._data)
        subprocess.run(["cp", "-a", str(self._kept), str(self._data)], check=True)

    def begin(self) -> None:
        self._running = self._start(self._made.spec, self.url)


@pytest.mark.parametrize("control", ["alive", "killed"])
async def test_a_server_that_is_back_with_old_data_is_given_what_came_after_them(
    database: Any, server_files: Path, running_server: Callable[..., Any], control: str
) -> None:
    server = Server(server_files / "valkey", running_server)
    async with fleet_on(database, server.url, keeps_users=True) as fleet:
        fleet.start_control()
        await fleet.publish(0, 100)
        assert as_published(await fleet.whole(100), 200)
        await asyncio.to_thread(server.end)
        server.keep()
        await asyncio.to_thread(server.begin)
        await fleet.publish(100, 100)
        assert as_published(await fleet.whole(200), 400)
        if control == "killed":
            await fleet.kill_control()
        await asyncio.to_thread(server.end)
        server.take_back()
        await fleet.publish(200, 50)
        await asyncio.to_thread(server.begin)
        if control == "killed":
            # The bots are back before it, and publish what is new.
            async def published() -> bool:
                with contextlib.suppress(*AWAY):
                    return bool(await fleet.redis.xlen(fleet.topology.out(fleet.bots[0].bot_id)))
                return False

            await eventually(published)
            fleet.start_control()
        found = await fleet.whole(250)
        assert as_published(found, 500)
    await asyncio.to_thread(server.end)


async def test_without_the_database_an_emptied_server_is_not_taken_for_known(valkey_admin_url: str) -> None:
    redis, topology = connect(valkey_admin_url), Topology(f"t{secrets.token_hex(4)}")
    away = [True]

    async def recover(loss: Loss) -> None:
        if away[0]:
            raise BotctlError("the database is away")

    keeper = BusKeeper(BusAdmin(redis, topology), recover=recover)
    keeper.load({5: hashed("x")})
    try:
        assert not await keeper.settle(5.0)
        assert keeper.settled is None
        assert not keeper.sound
        assert not await redis.exists(topology.marker, topology.beat, topology.out(5))
        away.clear()
        away.append(False)
        assert await keeper.settle(5.0)
        assert await redis.exists(topology.marker, topology.beat, topology.out(5)) == 3
    finally:
        await keeper.drop(5)
        keys = [key async for key in redis.scan_iter(match=f"{topology.namespace}:*")]
        await redis.delete(*keys)
        await redis.aclose()


async def test_a_server_emptied_while_it_is_made_is_made_once_more(valkey_admin_url: str) -> None:
    redis, topology, losses = connect(valkey_admin_url), Topology(f"t{secrets.token_hex(4)}"), list[Loss]()

    async def emptied(anew: bool) -> None:
        if anew and len(losses) == 1:
            await redis.delete(*[key async for key in redis.scan_iter(match=f"{topology.namespace}:*")])

    async def recover(loss: Loss) -> None:
        losses.append(loss)

    keeper = BusKeeper(BusAdmin(redis, topology), recover=recover, also=emptied)
    try:
        assert not await keeper.settle(5.0)
        assert await keeper.settle(5.0)
        assert len(losses) == 2
        assert await redis.exists(topology.out(0), topology.marker) == 2
    finally:
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{topology.namespace}:*")])
        await redis.aclose()


async def test_the_beat_goes_on_and_is_one_of_this_run(valkey_admin_url: str) -> None:
    redis, topology = connect(valkey_admin_url), Topology(f"t{secrets.token_hex(4)}")
    keeper, losses = BusKeeper(BusAdmin(redis, topology)), list[Loss]()

    async def recover(loss: Loss) -> None:
        losses.append(loss)

    try:
        assert await keeper.settle(5.0)
        first = await redis.get(topology.beat)
        assert await keeper.settle(5.0)
        second = await redis.get(topology.beat)
        assert first < second
        keeper._recover = recover
        await redis.set(topology.beat, first)  # data that have gone back
        assert await keeper.settle(5.0)
        assert [loss.empty for loss in losses] == [False]
        assert await BusKeeper(BusAdmin(redis, topology), recover=recover).settle(5.0)
        assert len(losses) == 1, "nothing is lost by another control"
    finally:
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{topology.namespace}:*")])
        await redis.aclose()


async def test_a_row_that_became_due_again_is_not_marked_for_where_it_was_sent_before(
    database: Any, valkey_admin_url: str
) -> None:
    """A relay's mark that comes late, after the server it was sent to is gone."""
    async with fleet_on(database, valkey_admin_url, 1) as fleet:
        for task in fleet.tasks:
            task.cancel()
        (bot,) = fleet.bots
        await fleet.publish(0, 3)
        own, outbox = login_engine(parse_database_url(bot.database_url), pool_size=1), Outbox(bot.bot_id)
        control = login_engine(parse_database_url(fleet.control.database_url), pool_size=2)
        try:
            async with own.begin() as connection:
                sent = await outbox.pending(connection, 100)
                await outbox.mark_relayed(connection, [sent[0].seq])
            await Resender(control, lambda: None).recover(Loss(5.0), fleet.redis, fleet.topology)
            async with own.begin() as connection:
                await outbox.mark_relayed(connection, [one.seq for one in sent])
                again = await outbox.pending(connection, 100)
                assert [one.seq for one in again] == [one.seq for one in sent]
                await outbox.mark_relayed(connection, [one.seq for one in again])
                assert await outbox.pending(connection, 100) == []
        finally:
            await own.dispose()
            await control.dispose()


@pytest.mark.parametrize(
    ("loss", "quiet_due"), [(Loss(0.0, empty=True), {-60}), (Loss(None, empty=True), {-60, 185, 230})]
)
async def test_when_nobody_knows_when_it_went_the_last_hour_of_each_bot_comes_again(
    database: Any, valkey_admin_url: str, loss: Loss, quiet_due: set[int]
) -> None:
    async with fleet_on(database, valkey_admin_url, 2) as fleet:
        for task in fleet.tasks:
            task.cancel()
        admin = await connect_database(database.admin)
        control = login_engine(parse_database_url(fleet.control.database_url), pool_size=2)
        quiet, busy = (bot.bot_id for bot in fleet.bots)
        ages = {quiet: (300, 230, 185, -60), busy: (90, 59, 1)}
        for bot_id, minutes in ages.items():
            for age in minutes:
                await admin.execute(
                    "INSERT INTO outbox (bot_id, event_id, type, relayed_at)"
                    " VALUES ($1, $2, 'custom.tick', now() - make_interval(mins => $3))",
                    bot_id, f"{age}", age,
                )  # fmt: skip

        async def due() -> dict[int, set[int]]:
            rows = await admin.fetch(
                "SELECT bot_id, event_id FROM outbox WHERE relayed_at IS NULL AND bot_id = ANY ($1)", list(ages)
            )
            return {bot_id: {int(row[1]) for row in rows if row[0] == bot_id} for bot_id in ages}

        try:
            await Resender(control, lambda: None).recover(loss, fleet.redis, fleet.topology)
            assert await due() == {quiet: quiet_due, busy: {59, 1}}
        finally:
            await admin.close()
            await control.dispose()
