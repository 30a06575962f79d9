"""Consumer groups, made anew without what somebody has piled up in them. Loses no entry.

A bot names the consumers it reads as, and each name stays, up to a megabyte long; what it reads and never acknowledges
stays too, also when the entries are long gone. Neither can be taken away one by one at a bearable price.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from botctl.bus.topology import MAILBOX_GROUP
from botctl.bus.wire import Command, execute, transact

MAILBOX_CONSUMERS = 8
"""Of a bot's mailbox. Ours reads as one; members of a group have one each, see `groups.py`."""


async def begin_again(redis: Redis, mailbox: str) -> bool:
    """Entries that were read and not acknowledged come again. False if there is nothing to do."""
    groups, pending = await execute(
        redis, [("XINFO", "GROUPS", mailbox), ("XPENDING", mailbox, MAILBOX_GROUP)], timeout=60
    )
    if isinstance(groups, BaseException) or isinstance(pending, BaseException) or not groups:
        return False
    start = before(pending[1]) if pending[0] else field_of(groups[0], "last-delivered-id")
    await begin_at(redis, mailbox, MAILBOX_GROUP, start)
    return True


async def begin_at(redis: Redis, stream: str, group: str, start: str | bytes) -> list[Any]:
    """The group made anew, to read on behind the entry `start`; the replies to its end and to its beginning."""
    again: list[Command] = [("XGROUP", "DESTROY", stream, group), ("XGROUP", "CREATE", stream, group, start)]
    try:
        return await transact(redis, again, timeout=60)
    except OutOfMemoryError:
        # Perhaps by what this very group holds: its end has to come first, which is what gives memory back.
        return await execute(redis, again, timeout=60)


def before(entry_id: bytes) -> str:
    """The largest id smaller than this one."""
    ms, seq = (int(part) for part in entry_id.split(b"-"))
    if seq:
        return f"{ms}-{seq - 1}"
    return f"{ms - 1}-{2**64 - 1}" if ms else "0-0"


def field_of(pairs: Any, name: str) -> Any:
    """A value of an XINFO reply: a dict over RESP3, a flat list over RESP2."""
    key = name.encode()
    return pairs.get(key) if isinstance(pairs, dict) else dict(zip(pairs[::2], pairs[1::2], strict=True)).get(key)
