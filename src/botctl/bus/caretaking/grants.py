"""Programs outside the fleet that read a log: their user, their rights, their consumer group.

A grantee may read and acknowledge, nothing else, and only on its logs. Redis's access lists can't restrict the name of
a group, which is an argument: who knew another's group could take its work away. So a group's name ends in 128 random
bits. Nobody who may not ask for the groups (XINFO) can learn it, and a name that isn't known is of no use.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from botctl.bus.caretaking.admin import BusAdmin, is_busy_group
from botctl.bus.events import Log
from botctl.bus.reading.mailbox_groups import before, field_of
from botctl.bus.stream_reply import entry_order, text_of
from botctl.bus.topology import ServerVersion, Topology
from botctl.bus.wire import Command, execute

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""Of a grant, and of the readable half of its group."""

GROUP = re.compile(r"([a-z0-9][a-z0-9_-]{0,31})-([0-9a-f]{32})")
"""The whole name of a group."""

_COUNTED = 200_000
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Grant:
    """One of them. `group` is the whole name of its consumer group; `start` the entry id after which it begins."""

    name: str
    logs: tuple[Log, ...]
    group: str = field(repr=False)
    password_sha256: str = field(repr=False)
    start: str = "0"


def grant_user(topology: Topology, name: str) -> str:
    """The Redis user of a grant."""
    return f"{topology.namespace}-ext-{name}"


def grant_rules(topology: Topology, grant: Grant, version: ServerVersion) -> list[str]:
    """The rules of ACL SETUSER for a grantee. Pure.

    XAUTOCLAIM and XPENDING are there, unlike for bots: nobody else hands out anew what one of its programs has left.
    Each searches through what the group hasn't acknowledged, which is bounded (`grant_limits.py`). No XCLAIM: it can
    move the group's place. No XINFO: it tells the names of groups.
    """
    commands = ["-@all", "+ping", "+hello", "+auth"]
    if version.has_client_setinfo:
        commands.append("+client|setinfo")
    logs = " ".join(f"~{topology.log(log)}" for log in sorted(grant.logs))
    return [
        *("reset", "on", f"#{grant.password_sha256}", "resetchannels"),
        *commands,
        f"(+xreadgroup +xack +xautoclaim +xpending {logs})",
    ]


class GrantAdmin:
    """Makes and drops users and groups of grants. Methods raise what Redis raises while it is away."""

    def __init__(self, admin: BusAdmin) -> None:
        self._admin = admin
        self._redis = admin.redis
        self._topology = admin.topology
        self._rules: dict[str, list[str]] = {}
        """What users were made with, by grant."""

    async def ensure(
        self, grants: Collection[Grant], at_end: Collection[str] = (), *, anew: bool = False
    ) -> list[tuple[Grant, Log]]:
        """Make what is missing; which groups had to be made. Those that exist stay where they are.

        Groups of grants that are named in `at_end` begin with the next entry, others where their grant says. A user
        that is there as it was made is left alone, for the guard may keep it off; `anew`: the server may have it
        differently.
        """
        version = await self._admin.check_version()
        wanted = {grant.name: grant_rules(self._topology, grant, version) for grant in grants}
        there = set() if anew else {text_of(name) for name in await self._redis.acl_users()}
        changed = {
            name: rules
            for name, rules in wanted.items()
            if rules != self._rules.get(name) or grant_user(self._topology, name) not in there
        }
        users: list[Command] = [
            ("ACL", "SETUSER", grant_user(self._topology, name), *rules) for name, rules in changed.items()
        ]
        # Groups first: a grantee that reads at once finds its own.
        made = [
            (grant, log)
            for grant in grants
            for log in grant.logs
            if await self._make_group(grant, log, end=grant.name in at_end)
        ]
        for reply in await self._admin.change_users(users) if users else ():
            if isinstance(reply, BaseException):
                raise reply
        self._rules |= changed
        return made

    async def drop(self, name: str) -> None:
        """Delete the grant's user, which ends its connections at once."""
        self._rules.pop(name, None)
        for reply in await self._admin.change_users([("ACL", "DELUSER", grant_user(self._topology, name))]):
            if isinstance(reply, BaseException):
                raise reply

    async def sweep(self, grants: Collection[Grant]) -> None:
        """Drop users and groups of nobody's among these."""
        names = [text_of(name) for name in await self._redis.acl_users()]
        prefix, ours = grant_user(self._topology, ""), {grant.name for grant in grants}
        rests = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for stranger in [rest for rest in rests if NAME.fullmatch(rest) and rest not in ours]:
            if await self._reads_our_logs(stranger):
                await self.drop(stranger)
        for log in Log:
            wanted = {grant.group for grant in grants if log in grant.logs}
            stream = self._topology.log(log)
            (groups,) = await execute(self._redis, [("XINFO", "GROUPS", stream)])
            if isinstance(groups, BaseException):
                continue
            gone = {text_of(field_of(group, "name")) for group in groups} - wanted
            destroy: list[Command] = [
                ("XGROUP", "DESTROY", stream, one) for one in sorted(gone) if GROUP.fullmatch(one)
            ]
            await execute(self._redis, destroy)

    async def _reads_our_logs(self, name: str) -> bool:
        """A namespace may begin with another one's name and `-ext-`: then so do its users."""
        (user,) = await execute(self._redis, [("ACL", "GETUSER", grant_user(self._topology, name))])
        return f"~{self._topology.namespace}:events:" in repr(user)

    async def here(self) -> str:
        """The id before all entries that are still to come."""
        seconds, micros = await self._redis.time()
        return before(f"{int(seconds) * 1000 + int(micros) // 1000}-0".encode())

    async def move(self, grant: Grant, log: Log, after: str) -> int | None:
        """Have the group read what comes after this id, once more or for the first time; how many entries that is."""
        stream = self._topology.log(log)
        added, left = await self._place(stream, after)
        count: Command = () if left is None else ("ENTRIESREAD", max(0, added - left))
        (reply,) = await execute(self._redis, [("XGROUP", "SETID", stream, grant.group, after, *count)])
        if isinstance(reply, BaseException):
            raise reply
        return left

    async def count(self, log: Log, after: str) -> int | None:
        """How many entries of the log come after this id; None if they are too many to count."""
        return (await self._place(self._topology.log(log), after))[1]

    async def _make_group(self, grant: Grant, log: Log, *, end: bool) -> bool:
        stream = self._topology.log(log)
        (groups,) = await execute(self._redis, [("XINFO", "GROUPS", stream)])
        if not isinstance(groups, BaseException) and grant.group in {text_of(field_of(one, "name")) for one in groups}:
            return False
        (info,) = await execute(self._redis, [("XINFO", "STREAM", stream)])
        newest = "0-0" if isinstance(info, BaseException) else text_of(field_of(info, "last-generated-id"))
        # On a server that began anew, with a clock that goes behind, the place would lie in the future.
        begun_anew = isinstance(info, BaseException) or not field_of(info, "entries-added")
        start = "0" if begun_anew and entry_order(grant.start) > entry_order(newest) else grant.start
        if end and not begun_anew:
            start = newest
        added, left = await self._place(stream, start)
        count: Command = () if left is None else ("ENTRIESREAD", max(0, added - left))
        (reply,) = await execute(self._redis, [("XGROUP", "CREATE", stream, grant.group, start, "MKSTREAM", *count)])
        if isinstance(reply, BaseException):
            if is_busy_group(reply):
                return False
            raise reply
        return True

    async def _place(self, stream: str, after: str) -> tuple[int, int | None]:
        """Entries ever added to the stream, and how many there are after the id; None if they are too many to count."""
        (info,) = await execute(self._redis, [("XINFO", "STREAM", stream)])
        if isinstance(info, BaseException):
            return 0, 0
        added, length = int(field_of(info, "entries-added")), int(field_of(info, "length"))
        first = field_of(info, "first-entry")
        if not length or entry_order(after) >= entry_order(text_of(field_of(info, "last-generated-id"))):
            return added, 0
        if first and entry_order(after) < entry_order(text_of(first[0])):
            return added, length
        return added, await count_after(self._redis, stream, after)


async def count_after(redis: Redis, stream: str, after: str, until: str = "+") -> int | None:
    """Entries after this id and up to `until`, in pages; None when there are more than 200,000."""
    count = 0
    while count <= _COUNTED:
        page: Any = await redis.xrange(stream, min=f"({after}", max=until, count=_PAGE)
        if not page:
            return count
        count += len(page)
        after = text_of(page[-1][0])
    return None
