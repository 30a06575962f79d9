"""Names of every Redis key and user, and the rights of a bot's user.

Pure. All keys begin with the namespace, so that several installations can share a server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from botctl.bus.events import FLEET, Log
from botctl.errors import UsageError

ROUTER_GROUP = "router"
"""Consumer group of the router on every out stream."""

MAILBOX_GROUP = "bot"
"""Consumer group of a bot on its mailbox, and of a group's members on the one they share."""

TAKER = "control"
"""Consumer that takes from a group's members what they have left."""

TRIES = "tries"
"""A second field of an entry of a group: how often it was handed out before it was appended anew."""

FIELD = "e"
"""The one field of an entry: the encoded event."""

AGAIN = "again"
"""A second field of an entry of an out stream: route it though an event of its id was routed already."""

Receiver = int | str
"""A bot, by its id, or a group, by its name."""

_NAMESPACE_FORMAT = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HASH_FORMAT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ServerVersion:
    """What the server is: `product` is `redis` or `valkey`."""

    product: str
    number: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.product.capitalize()} {'.'.join(map(str, self.number))}"

    @property
    def supported(self) -> bool:
        """Whether it has all that botctl needs: Redis 7.0 (ACL selectors), Valkey 8."""
        return self.number >= ((8,) if self.product == "valkey" else (7, 0))

    @property
    def has_client_setinfo(self) -> bool:
        """Whether it knows CLIENT SETINFO, which client libraries send after connecting: from Redis 7.2 on."""
        return self.number >= (7, 2)


class Topology:
    """The names of one installation. Raises UsageError for an unfit namespace."""

    def __init__(self, namespace: str) -> None:
        if _NAMESPACE_FORMAT.fullmatch(namespace) is None:
            raise UsageError(
                f"namespace {namespace!r} has other characters than letters, digits, _ and -, or more than 40",
                hint="Set BOTCTL_NAMESPACE to a short plain name.",
            )
        self.namespace = namespace
        self.dead_letters = f"{namespace}:bus:dead"
        """Stream of entries the router has refused."""
        self.marker = f"{namespace}:bus:marker"
        """A key that is gone when the server has lost its data."""
        self.beat = f"{namespace}:bus:beat"
        """Until when all that was relayed is among these data, and in which run of the server."""
        self.making = f"{namespace}:bus:making"
        """Stands while streams and groups are made again; a loss amid that shows by its being gone."""
        self.out_pattern = f"{namespace}:bus:bot:*:out"
        self._out = re.compile(re.escape(namespace) + r":bus:bot:([0-9]{1,20}):out")
        self._mailbox = re.compile(re.escape(namespace) + r":bus:bot:([0-9]{1,20}):in")
        self.group_pattern = f"{namespace}:bus:group:*:in"
        self._group = re.compile(re.escape(namespace) + r":bus:group:([a-z0-9][a-z0-9_-]{0,31}):in")

    def out(self, bot_id: int) -> str:
        """The stream a bot publishes to; 0 is the fleet's."""
        return f"{self.namespace}:bus:bot:{bot_id}:out"

    def mailbox(self, bot_id: int) -> str:
        """The stream a bot's subscriptions are delivered to."""
        return f"{self.namespace}:bus:bot:{bot_id}:in"

    def group(self, name: str) -> str:
        """The stream that the members of a group share."""
        return f"{self.namespace}:bus:group:{name}:in"

    def inlet(self, receiver: Receiver) -> str:
        """The mailbox of a bot, by its id, or of a group, by its name."""
        return self.mailbox(receiver) if isinstance(receiver, int) else self.group(receiver)

    def log(self, log: Log) -> str:
        """The stream of one of the three logs."""
        return f"{self.namespace}:events:{log.value}"

    def user(self, bot_id: int) -> str:
        """The bot's Redis user."""
        return f"{self.namespace}-bot-{bot_id}"

    def bot_of_out(self, key: str) -> int | None:
        """Whose out stream this key is."""
        found = self._out.fullmatch(key)
        return int(found[1]) if found is not None else None

    def bot_of_mailbox(self, key: str) -> int | None:
        """Whose mailbox this key is."""
        found = self._mailbox.fullmatch(key)
        return int(found[1]) if found is not None else None

    def group_of(self, key: str) -> str | None:
        """Which group's stream this key is."""
        found = self._group.fullmatch(key)
        return found[1] if found is not None else None

    def receiver_of(self, key: str) -> Receiver | None:
        """Whose mailbox this key is: a bot's or a group's."""
        bot_id = self.bot_of_mailbox(key)
        return bot_id if bot_id is not None else self.group_of(key)

    def acl_rules(
        self, bot_id: int, password_hashes: Sequence[str], version: ServerVersion, groups: Sequence[str] = ()
    ) -> list[str]:
        """The rules of ACL SETUSER for a bot: read and acknowledge its mailbox, append to its out stream and ask how
        much lies in there (`pace.py`), no more.

        Of the groups it belongs to it may read and acknowledge the streams, too.

        `password_hashes` are SHA-256 in hex, the new one first and perhaps the previous one. ACLs can't restrict
        arguments, so whoever reads the out stream must trust neither its ids nor its length. No XPENDING and
        XAUTOCLAIM: nobody here needs them, and each call searches through all that isn't acknowledged.
        """
        for digest in password_hashes:
            if _HASH_FORMAT.fullmatch(digest) is None:
                raise ValueError("a password hash is 64 hexadecimal digits")
        commands = ["-@all", "+ping", "+hello", "+auth"]
        if version.has_client_setinfo:
            commands.append("+client|setinfo")
        inlets = " ".join(f"~{key}" for key in (self.mailbox(bot_id), *map(self.group, sorted(groups))))
        return [
            "reset",
            "on",
            *(f"#{digest}" for digest in password_hashes),
            "resetchannels",
            *commands,
            f"(+xreadgroup +xack {inlets})",
            f"(+xadd %W~{self.out(bot_id)})",
            f"(+xlen %R~{self.out(bot_id)})",
        ]


def consumer_of(bot_id: int) -> str:
    """The consumer a bot reads a group's stream as."""
    return f"bot-{bot_id}"


def source_of(bot_id: int) -> str:
    """What the router stamps on events from this bot's out stream."""
    return FLEET if bot_id == 0 else f"bot:{bot_id}"
