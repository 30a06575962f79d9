"""What `doctor` finds about programs outside that read logs: how they reach Redis, and whether one is far behind."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botctl.cli.findings import Finding, Verdict

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from botctl.bus.topology import Topology

_LATE = 0.8
"""Part of the time that logs keep events after which a reader is told of."""


async def bus_findings(
    redis: Redis, topology: Topology, address: str, *, embedded: bool, keep_seconds: float
) -> list[Finding]:
    """Of the groups that grants have made; nothing where there is none. Asks, changes nothing."""
    from botctl.bus.caretaking.grants import GROUP, grant_user
    from botctl.bus.caretaking.retention import reader_of
    from botctl.bus.events import Log
    from botctl.bus.reading.lag import Place, measure
    from botctl.bus.reading.mailbox_groups import field_of
    from botctl.bus.wire import execute

    names = [_text(name) for name in await redis.acl_users()]
    prefix = grant_user(topology, "")
    grants = sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    if not grants:
        return []
    streams = {log: topology.log(log) for log in Log}
    replies = await execute(redis, [("XINFO", "GROUPS", stream) for stream in streams.values()])
    places = [
        Place(reader_of(name), stream, name, log.value)
        for (log, stream), groups in zip(streams.items(), replies, strict=True)
        if not isinstance(groups, BaseException)
        for group in groups
        if GROUP.fullmatch(name := _text(field_of(group, "name")))
    ]
    found = [Finding(Verdict.OK, "programs outside", f"{', '.join(grants)}; {reach(address, embedded=embedded)}")]
    for lag in await measure(redis, places):
        if lag.seconds > _LATE * keep_seconds:
            said = f"{lag.reader} has {lag.unread + lag.pending} events of the log {lag.log} to read, the oldest"
            hint = "Beyond that they are kept only as long as there is room. `botctl events lag` shows all readers."
            text = f"{said} {lag.seconds / 86_400:.1f} days old; events are kept for {keep_seconds / 86_400:g}"
            found.append(Finding(Verdict.WARN, "programs outside", text, hint))
    return found


def reach(address: str, *, embedded: bool) -> str:
    """How a program reaches this Redis, in words. Pure."""
    parts = urlsplit(address)
    where = f"{parts.hostname}:{parts.port or 6379}"
    if not embedded:
        return f"they use {parts.scheme}://{where}"
    return (
        f"they reach Redis at {where}, from this machine only; from elsewhere through a tunnel"
        f" (ssh -L {parts.port}:{where}), or use a server of your own (BOTCTL_REDIS_URL)"
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
