"""What the groups of programs outside may hold, and the end of what is more.

A grantee can't be restricted in the names it reads as, nor in what it leaves unacknowledged; so it is looked at.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from botctl.bus.caretaking.grants import GROUP
from botctl.bus.events import Log
from botctl.bus.reading.mailbox_groups import before, begin_at, field_of
from botctl.bus.stream_reply import text_of
from botctl.bus.topology import Topology
from botctl.bus.wire import execute

MOST_PENDING = 20_000
"""Entries of a log that a group may have read and not acknowledged; each costs the server some 100 bytes."""

GRANT_CONSUMERS = 32
"""Names that a grantee's programs may read as: each stays."""

LONGEST_CONSUMER = 256
"""Bytes of such a name; the server takes a megabyte."""


async def tame(redis: Redis, topology: Topology) -> dict[str, str]:
    """Begin groups of the logs again in which somebody has piled up too much; what, by the name of the grant's group.

    What they hold counts as the log's memory, which others' events would have to make room for. No entry is lost: what
    wasn't acknowledged comes again.
    """
    streams = [topology.log(log) for log in Log]
    found: dict[str, str] = {}
    for stream, groups in zip(
        streams, await execute(redis, [("XINFO", "GROUPS", one) for one in streams]), strict=True
    ):
        if isinstance(groups, BaseException) or not groups:
            continue
        for group in groups:
            name = text_of(field_of(group, "name"))
            grown = GROUP.fullmatch(name)
            if grown is not None and (what := await _excess(redis, stream, name, group)) is not None:
                found[grown[1]] = what
                await begin_group_again(redis, stream, name, text_of(field_of(group, "last-delivered-id")))
    return found


async def _excess(redis: Redis, stream: str, name: str, group: Any) -> str | None:
    count, pending = int(field_of(group, "consumers") or 0), int(field_of(group, "pending") or 0)
    if count > GRANT_CONSUMERS:
        return f"{count} consumers in its group; {GRANT_CONSUMERS} are allowed"
    if pending > MOST_PENDING:
        return f"{pending} events read and not acknowledged; {MOST_PENDING} are allowed"
    if not count:
        return None
    try:
        (consumers,) = await execute(redis, [("XINFO", "CONSUMERS", stream, name)], timeout=60)
    except ConnectionError:
        return "a list of consumers that is longer than the server sends"  # or it is away: then what follows says so
    names = [] if isinstance(consumers, BaseException) else [field_of(one, "name") for one in consumers]
    if any(len(name) > LONGEST_CONSUMER for name in names):
        return f"a consumer's name of more than {LONGEST_CONSUMER} bytes"
    return None


async def begin_group_again(redis: Redis, stream: str, group: str, delivered: str) -> None:
    """Make a group anew without its consumers; `delivered` is where it stood when it holds nothing."""
    (pending,) = await execute(redis, [("XPENDING", stream, group)], timeout=60)
    if isinstance(pending, BaseException):
        return
    start = before(pending[1]) if pending[0] else delivered
    for reply in await begin_at(redis, stream, group, start):
        if isinstance(reply, BaseException):
            raise reply
