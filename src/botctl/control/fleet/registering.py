"""Writes a wanted fleet into the registry: its bots, those that are gone, the event that says so. One transaction."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bus.events import event_id
from botctl.control.fleet.wanted import fingerprint, public_config
from botctl.errors import UsageError
from botctl.fleet import BotSpec, Fleet, FleetDiff
from botctl.storage import registry
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.registry import RegisteredBot

Also = Callable[[AsyncConnection], Awaitable[None]]
"""Work that belongs into the same transaction."""


async def register(engine: AsyncEngine, fleet: Fleet, diff: FleetDiff, *also: Also) -> None:
    """Raises UsageError when a bot of the fleet is managed through the API; nothing is changed then."""
    wanted = {bot.bot_id for bot in fleet.bots}
    async with engine.begin() as connection:
        known = [bot for bot in await registry.read_bots(connection) if not bot.removed]
        foreign = {bot.bot_id for bot in known if bot.managed_by != "file"}
        if clash := [bot.name for bot in fleet.bots if bot.bot_id in foreign]:
            raise UsageError(f"managed through the API already: {', '.join(clash)}", hint="Take them from the file.")
        await registry.save_bots(connection, [_row(bot) for bot in fleet.bots])
        await registry.mark_removed(connection, {bot.bot_id for bot in known} - wanted - foreign)
        if not diff.empty:
            await Outbox(0).add(connection, [_config_updated(diff)])
        for work in also:
            await work(connection)


def _row(bot: BotSpec) -> RegisteredBot:
    return RegisteredBot(
        bot_id=bot.bot_id,
        name=bot.name,
        enabled=bot.enabled,
        token_fingerprint=fingerprint(bot.token.get_secret_value()),
        config=public_config(bot),
    )


def _config_updated(diff: FleetDiff) -> StoredEvent:
    return StoredEvent(
        event_id=event_id(0, f"apply:{uuid.uuid4()}", 0),
        type="config.updated",
        version=1,
        occurred_at=time.time(),
        correlation_id="",
        causation_id="",
        data={
            "added": list(diff.added),
            "removed": list(diff.removed),
            "changed": list(diff.changed),
            "actor": "operator",
        },
    )
