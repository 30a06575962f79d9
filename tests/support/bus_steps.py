"""Steps of tests on the event bus: an event, what a log holds, a relay."""

from __future__ import annotations

import time
from typing import Any

from botctl.bus.events import Event, Log
from botctl.bus.reading.reader import read_log
from botctl.bus.relay import Relay


def tick(event_id: str, event_type: str = "custom.tick", **data: Any) -> Event:
    return Event(id=event_id, type=event_type, occurred_at=time.time(), correlation_id="t1", data=data)


async def logged(bus: Any, log: Log = Log.BOT) -> list[str]:
    return [event.id async for _, event in read_log(bus.redis, bus.topology, log)]


async def start_relay(bus: Any, bot_id: int, outbox: Any, **options: Any) -> Relay:
    client = bus.redis if bot_id == 0 else bus.bot_client(bot_id)
    relay = Relay(client, bus.topology, bot_id, outbox, **options)
    bus.start(relay)
    return relay
