"""What removed bots have left in their outboxes is relayed and routed, in order, and what they had on Redis goes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from botctl.bus.client import connect as connect_redis
from botctl.bus.events import decode_event
from botctl.bus.topology import Topology
from botctl.control.assembly import Assembly
from botctl.control.fleet.applied import FleetSource
from botctl.fleet import BotSpec, Fleet
from botctl.handover import ControlConfig
from botctl.storage.engine import connect
from botctl.storage.quarantines import Quarantined
from support.fleet_stage import SupervisorDouble, bot, eventually


class Orphaned:
    """A fleet of one that remains; `gone` was of it."""

    def __init__(self, database: Any, redis_url: str, folder: Path) -> None:
        namespace = f"t{uuid.uuid4().hex[:8]}"
        self.topology = Topology(namespace)
        self.supervisor = SupervisorDouble()
        self.redis = connect_redis(redis_url)
        self.remains: BotSpec = bot("remains", subscribe=["custom.*"])
        self.gone: BotSpec = bot("gone")
        self.assembly = Assembly(
            ControlConfig(
                database=database.control,
                redis_url=redis_url,
                namespace=namespace,
                data_dir=str(folder),
                socket=str(folder / "api.sock"),
                version="0",
            ),
            self.supervisor,
        )
        self._database = database

    async def open(self) -> None:
        self.admin = await connect(self._database.admin)
        self.assembly.start()
        await self.assembly.keeper.apply(Fleet(bots=(self.remains, self.gone)), FleetSource())
        await self.without(self.gone)

    async def without(self, gone: BotSpec) -> None:
        """It is removed, and its login and its streams have gone."""
        await self.assembly.keeper.apply(Fleet(bots=(self.remains,)), FleetSource())
        await eventually(lambda: self.has_ended(gone))

    async def has_ended(self, gone: BotSpec) -> bool:
        there = await self.redis.exists(self.topology.out(gone.bot_id), self.topology.mailbox(gone.bot_id))
        return not there and not self.assembly.keeper.credentials.retiring and self.assembly.bus.sound

    async def commit(self, *numbers: int, sealed: bool = False) -> None:
        """Events of the bot that is gone, as it left them."""
        data = '{"$sealed": "bm9ib2R5IGhhcyB0aGlzIGtleQ=="}' if sealed else "{}"
        await self.admin.executemany(
            "INSERT INTO outbox (bot_id, event_id, type, data) VALUES ($1, $2, 'custom.tick', $3::jsonb)",
            [(self.gone.bot_id, f"e{number}", data) for number in numbers],
        )

    async def waiting(self) -> int:
        found = await self.admin.fetchval(
            "SELECT count(*) FROM outbox WHERE bot_id = $1 AND relayed_at IS NULL", self.gone.bot_id
        )
        return int(found)

    async def handed_out(self) -> list[str]:
        """Ids of the events of the bot that is gone, in the mailbox of the one that remains."""
        entries: Any = await self.redis.xrange(self.topology.mailbox(self.remains.bot_id))
        events = [decode_event(fields[b"e"]) for _, fields in entries]
        return [event.id.rpartition(":")[2] for event in events if event.source == f"bot:{self.gone.bot_id}"]

    def served(self) -> bool:
        """Whether it is one of those whose outboxes are worked on."""
        return self.gone.bot_id in self.assembly.orphans.bots

    async def look(self) -> None:
        await self.assembly.orphans.look()

    async def close(self) -> None:
        await self.assembly.close(1.0)
        for each in (self.remains, self.gone):
            await self.assembly.bus.drop(each.bot_id)
        await self.redis.delete(*[key async for key in self.redis.scan_iter(match=f"{self.topology.namespace}:*")])
        await self.redis.aclose()
        await self.admin.close()


@pytest.fixture
async def orphaned(database: Any, valkey_admin_url: str, tmp_path: Path) -> AsyncIterator[Orphaned]:
    made = Orphaned(database, valkey_admin_url, tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_what_a_removed_bot_left_is_relayed_routed_and_cleared_away(orphaned: Orphaned) -> None:
    await orphaned.commit(*range(120))
    assert await orphaned.waiting() == 120

    async def over() -> bool:
        await orphaned.look()
        return not orphaned.served() and await orphaned.waiting() == 0

    await eventually(over)
    assert await orphaned.handed_out() == [f"e{number}" for number in range(120)]
    assert await orphaned.has_ended(orphaned.gone)


async def test_what_cant_be_opened_stays_and_holds_up_nothing(orphaned: Orphaned) -> None:
    await orphaned.commit(1, sealed=True)
    await orphaned.commit(2)

    async def passed_by() -> bool:
        await orphaned.look()
        return await orphaned.handed_out() == ["e2"]

    await eventually(passed_by)
    assert await orphaned.waiting() == 1


async def test_an_outbox_whose_bot_still_ends_or_is_back_is_left_alone(orphaned: Orphaned) -> None:
    orphaned.supervisor.lingering.add(orphaned.gone.bot_id)
    await orphaned.commit(1)
    await orphaned.look()
    assert await orphaned.waiting() == 1
    orphaned.supervisor.lingering.clear()
    await orphaned.assembly.keeper.apply(Fleet(bots=(orphaned.remains, orphaned.gone)), FleetSource())
    await orphaned.look()
    assert await orphaned.waiting() == 1
    assert not orphaned.served()


async def test_of_a_bot_that_was_shut_away_nothing_comes(orphaned: Orphaned) -> None:
    await orphaned.commit(1)
    orphaned.assembly.keeper.shut[orphaned.gone.bot_id] = Quarantined(by="operator", reason="taken over", at=1.0)
    await orphaned.look()
    assert await orphaned.waiting() == 1
    assert not orphaned.served()


async def test_nothing_goes_to_a_server_that_is_not_as_it_is_to_be(
    orphaned: Orphaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has lost comes first, in order."""
    await orphaned.commit(1)
    monkeypatch.setattr(orphaned.assembly.bus, "problem", "redis: not looked at yet")
    assert not await orphaned.assembly.bus.open_out(orphaned.gone.bot_id)
    await orphaned.look()
    assert await orphaned.waiting() == 1
    assert not await orphaned.redis.exists(orphaned.topology.out(orphaned.gone.bot_id))


async def test_control_begins_with_it_by_itself(orphaned: Orphaned) -> None:
    assert "orphans" in {task.get_name() for task in asyncio.all_tasks()}
