"""What only a privileged process may do on Redis: check the server, make and drop streams, groups and users.

Everything is idempotent and is done again whenever the server may have lost something (`identity.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from botctl.bus.caretaking.identity import Look, look
from botctl.bus.events import Log
from botctl.bus.topology import MAILBOX_GROUP, ROUTER_GROUP, ServerVersion, Topology
from botctl.bus.wire import Command, execute
from botctl.errors import ServerUnsupportedError

_log = structlog.get_logger("botctl.bus.caretaking.admin")


class BusAdmin:
    """The administrator's hand on the bus. `redis` needs all rights on the namespace, and ACL.

    `keeps_users`: the server has an ACL file that is ours, so that it still knows the users when it comes back from a
    crash. It holds SHA-256 hashes, never passwords. On a server of somebody else's that file is theirs to write.
    """

    def __init__(self, redis: Redis, topology: Topology, *, keeps_users: bool = False) -> None:
        self.redis = redis
        self.topology = topology
        self.unsaved = False
        """Whether the server knows other users than its file, which it could not write."""
        self._keeps_users = keeps_users
        self._version: ServerVersion | None = None

    async def check_version(self) -> ServerVersion:
        """What the server is. Raises ServerUnsupportedError if it is too old, or a cluster."""
        info = await self.redis.info("server")
        version = server_version(info)
        if not version.supported:
            raise ServerUnsupportedError(
                f"{version} is not supported: botctl needs Redis 7.0 or Valkey 8 at least",
                hint="Upgrade the server behind BOTCTL_REDIS_URL, or leave it unset to use the embedded Valkey.",
            )
        if info.get("redis_mode") == "cluster":
            raise ServerUnsupportedError(
                f"{version} runs as a cluster, which botctl doesn't support",
                hint="Set BOTCTL_REDIS_URL to a server that runs alone or with replicas.",
            )
        self._version = version
        return version

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Look]:
        """Look whether it is the server we know. After a restart another version may run: that is noted, too."""
        async with look(self.redis, self.topology) as made:
            self._version = server_version(made.info)
            yield made

    async def run_id(self) -> str:
        """Changes whenever the server may have lost users or data: after a restart, a failover, a FLUSHALL."""
        async with self.look() as made:
            return made.sight.identity

    async def ensure_logs(self) -> None:
        """Make the fleet's out stream with its group."""
        await self.ensure_out(0)

    async def ensure_out(self, bot_id: int) -> None:
        """Make the out stream of one who has no user, with its group."""
        await self._groups([(self.topology.out(bot_id), ROUTER_GROUP)])

    async def ensure_bot(self, bot_id: int, password_hashes: Sequence[str]) -> None:
        """Make the bot's streams, groups and user; see `ensure_bots`."""
        await self.ensure_bots({bot_id: password_hashes})

    async def ensure_bots(
        self, bots: Mapping[int, Sequence[str]], memberships: Mapping[int, Sequence[str]] = MappingProxyType({})
    ) -> None:
        """Make streams, groups and users of these bots, each with the SHA-256 hashes of one or two passwords.

        `memberships` are the groups whose work a bot shares: it has rights on their streams, and on no others. Streams
        and groups that exist stay as they are; a user is replaced atomically, its connections live on.
        Raises ServerUnsupportedError if the administrator may not manage users.
        """
        version = self._version or await self.check_version()
        groups: list[tuple[str, str]] = []
        users: list[Command] = []
        for bot_id, hashes in bots.items():
            if bot_id <= 0:
                raise ValueError("bot 0 is the fleet; it has no user")
            groups += [(self.topology.out(bot_id), ROUTER_GROUP), (self.topology.mailbox(bot_id), MAILBOX_GROUP)]
            rules = self.topology.acl_rules(bot_id, hashes, version, memberships.get(bot_id, ()))
            users.append(("ACL", "SETUSER", self.topology.user(bot_id), *rules))
        await self._groups(groups)
        for reply in await self.change_users(users):
            if isinstance(reply, NoPermissionError):
                raise ServerUnsupportedError(
                    "the Redis administrator of BOTCTL_REDIS_URL may not manage users (ACL SETUSER)",
                    hint="Give it +acl, or use a server on which you may: every bot needs a user of its own.",
                )
            if isinstance(reply, BaseException):
                raise reply

    async def ensure_groups(self, groups: Collection[str]) -> None:
        """Make the streams of these groups, and drop those of all others, with what nobody has read in them."""
        await self._groups([(self.topology.group(name), MAILBOX_GROUP) for name in sorted(groups)])
        keys = [key.decode() async for key in self.redis.scan_iter(match=self.topology.group_pattern, count=1000)]
        for key in keys:
            name = self.topology.group_of(key)
            if name is not None and name not in groups:
                left = await self.redis.xlen(key)
                await self.redis.delete(key)
                _log.warning("group is gone, and its stream with it", group=name, events=left)

    async def cut_off(self, bots: Iterable[int]) -> None:
        """End the connections of these bots; one that waits for an entry was admitted with the rights it had then."""
        await execute(self.redis, [("CLIENT", "KILL", "USER", self.topology.user(bot_id)) for bot_id in bots])

    async def shut_out(self, bots: Iterable[int]) -> None:
        """Keep these bots off until they are made again (`ensure_bots`), whether the server knows them or not."""
        users = [self.topology.user(bot_id) for bot_id in bots]
        for reply in await self.change_users([("ACL", "SETUSER", user, "off") for user in users]):
            if isinstance(reply, BaseException):
                raise reply
        await execute(self.redis, [("CLIENT", "KILL", "USER", user) for user in users])

    async def drop_user(self, bot_id: int) -> bool:
        """Delete the bot's user, which also ends its connections at once. Its streams stay. True if it existed."""
        (reply,) = await self.change_users([("ACL", "DELUSER", self.topology.user(bot_id))])
        if isinstance(reply, BaseException):
            raise reply
        return bool(reply)

    async def save_users(self) -> None:
        """Have the server write its users down, after a change that it could not write; `unsaved` tells the outcome."""
        await self.change_users([])

    async def drop_bot(self, bot_id: int) -> None:
        """Delete the bot's user and mailbox, and its out stream unless there is something in it to be routed."""
        await self.drop_user(bot_id)
        await self.redis.delete(self.topology.mailbox(bot_id))
        out = self.topology.out(bot_id)
        async with self.redis.pipeline(transaction=True) as pipe:
            await pipe.watch(out)
            if await pipe.xlen(out) == 0:
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.delete(out)
                await pipe.execute()

    async def known_bots(self) -> set[int]:
        """Bots that have a user on the server, wanted or not."""
        prefix = f"{self.topology.namespace}-bot-"
        names = [name.decode() if isinstance(name, bytes) else name for name in await self.redis.acl_users()]
        return {int(rest) for name in names if name.startswith(prefix) and (rest := name[len(prefix) :]).isdecimal()}

    async def log_lengths(self) -> dict[str, int]:
        """Entries of each log and of the dead letters."""
        keys = {log.value: self.topology.log(log) for log in Log} | {"dead": self.topology.dead_letters}
        replies = await execute(self.redis, [("XLEN", key) for key in keys.values()])
        return {name: reply for name, reply in zip(keys, replies, strict=True) if isinstance(reply, int)}

    async def change_users(self, commands: Sequence[Command]) -> list[object]:
        """Commands of ACL. The server writes its users down in the same breath, if that file is ours."""
        if not self._keeps_users:
            return await execute(self.redis, commands)
        *replies, saved = await execute(self.redis, [*commands, ("ACL", "SAVE")])
        self.unsaved = isinstance(saved, BaseException)
        return replies

    async def _groups(self, wanted: Sequence[tuple[str, str]]) -> None:
        # Counted from the beginning, so that it shows when entries are cut off before they are read.
        commands: list[Command] = [
            ("XGROUP", "CREATE", key, group, "0", "MKSTREAM", "ENTRIESREAD", "0") for key, group in wanted
        ]
        for reply in await execute(self.redis, commands):
            if isinstance(reply, BaseException) and not is_busy_group(reply):
                raise reply


def is_busy_group(error: BaseException) -> bool:
    """Whether the server says that the group exists already."""
    return isinstance(error, ResponseError) and "BUSYGROUP" in str(error)


def server_version(info: Mapping[str, object]) -> ServerVersion:
    """The version in the answer to INFO server. Valkey also claims to be Redis 7.2; its own name and number count."""
    if "valkey_version" in info:
        return ServerVersion("valkey", _numbers(str(info["valkey_version"])))
    return ServerVersion("redis", _numbers(str(info.get("redis_version", "0"))))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
