"""The bus's own dead letters: what the router has refused, and what killed one member of a group after another.

To look at them, to have one tried again, to drop one. For a privileged process. What a bot itself could not handle is a
dead letter of its inbox, in PostgreSQL, and not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import WatchError

from botctl.bus.stream_reply import entry_order, text_of
from botctl.bus.topology import AGAIN, FIELD, Topology
from botctl.bus.wire import Command
from botctl.errors import UsageError

MOST = 4_000
"""Dead letters at most, about, whatever happens; which are kept is up to `letter_shares.py`."""

MAX_BODY = 16 * 1024
"""Bytes kept of a refused event."""

_ATTEMPTS = 100
"""To take one while others are written; each takes two round trips."""

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_FIELD = FIELD.encode()


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. `id` is its own, `entry_id` the one it had in `stream`; `at` in seconds since the epoch.

    `bot_id` is whose stream it was in (0: the fleet's), `group` whose shared one; the other is None. `event_id`, `type`
    and `source` are empty as far as they are unknown. `attempts`: how often it was tried. `body` is cut at 16 KiB;
    `size` is what it was.
    """

    id: str
    at: float
    stream: str
    entry_id: str
    reason: str
    bot_id: int | None = None
    group: str | None = None
    event_id: str = ""
    type: str = ""
    source: str = ""
    attempts: int = 1
    body: bytes
    size: int

    @property
    def whole(self) -> bool:
        """Whether all of it is kept, so that it can be tried again."""
        return bool(self.body) and len(self.body) == self.size


def dead_letter_command(
    topology: Topology,
    stream: str,
    entry_id: str,
    reason: str,
    body: bytes,
    *,
    source: str = "",
    attempts: int = 1,
    whole: bool = True,
) -> Command:
    """What writes one. `whole` False: the body only describes what it was, or there is none. Pure.

    Without a `source`, which the stream tells, it is what the router has stamped on the body.
    """
    event_id, event_type, stamped = _named(body) if whole else ("", "", "")
    return (
        "XADD", topology.dead_letters, "MAXLEN", "~", MOST, "*",
        "stream", stream, "id", entry_id, "reason", reason[:500], "event", event_id, "type", event_type,
        "source", source or stamped, "attempts", attempts,
        FIELD, body[:MAX_BODY], "size", len(body) if whole else len(body[:MAX_BODY]) + 1,
    )  # fmt: skip


class DeadLetters:
    """`redis` needs all rights on the namespace. Methods raise what Redis raises while it is away."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology

    async def list(self, limit: int = 100, after: str | None = None) -> list[DeadLetter]:
        """The newest first; with `after`, the id of the last one of the page before, those that are older than it.

        Raises UsageError for an `after` that is no id.
        """
        newest = "+" if after is None else f"({_checked(after)}"
        entries: Any = await self._redis.xrevrange(self._topology.dead_letters, max=newest, count=limit)
        return [self._letter(entry_id, fields) for entry_id, fields in entries or []]

    async def show(self, letter_id: str) -> DeadLetter | None:
        """The one of this id. Raises UsageError for what is no id."""
        _checked(letter_id)
        entries: Any = await self._redis.xrange(self._topology.dead_letters, letter_id, letter_id)
        return next((self._letter(entry_id, fields) for entry_id, fields in entries or []), None)

    async def retry(self, letter_id: str) -> str:
        """Put it back where it came from, to be routed, or read by a member, anew; its new entry id there.

        It is taken even if the router remembers its event; whoever has it already knows it by its id. Raises UsageError
        for one that is gone or kept in part only, or whose stream is gone.
        """
        _checked(letter_id)
        for _ in range(_ATTEMPTS):
            try:
                return await self._retry(letter_id)
            except WatchError:
                continue  # Another one was written meanwhile, or this one taken.
        raise UsageError("dead letters are written all the time", hint="Try it once more.")

    async def _retry(self, letter_id: str) -> str:
        """Add and delete in one, and only if nobody else has taken it: two that retry it at once make one copy."""
        dead = self._topology.dead_letters
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(dead)
            entries: Any = await pipe.xrange(dead, letter_id, letter_id)
            if not entries:
                raise UsageError(f"there is no dead letter {letter_id}",
                                 hint="`botctl dead-letters list` shows which are.")  # fmt: skip
            [(_, kept)] = entries
            letter = self._letter(letter_id, kept)
            if not letter.whole:
                raise UsageError(f"dead letter {letter_id} is kept in part only and can't be tried again")
            kind = await pipe.type(letter.stream)
            if kind != b"stream" or (letter.bot_id is None and letter.group is None):
                raise UsageError(
                    f"there is no stream {letter.stream} any more to put dead letter {letter_id} back into"
                )
            words: dict[Any, Any] = {FIELD: letter.body}
            if letter.stream == self._out(letter):
                words[AGAIN] = 1
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.xadd(letter.stream, words)
            pipe.xdel(dead, letter_id)
            added, _ = await pipe.execute(raise_on_error=False)
        if isinstance(added, BaseException):
            await self._redis.xadd(dead, kept)  # deleted all the same: a MULTI goes on
            raise added
        return text_of(added)

    async def drop(self, letter_id: str) -> bool:
        """Delete it; False if it is gone already. Raises UsageError for what is no id."""
        return bool(await self._redis.xdel(self._topology.dead_letters, _checked(letter_id)))

    async def count(self) -> int:
        """How many there are."""
        return int(await self._redis.xlen(self._topology.dead_letters))

    def _out(self, letter: DeadLetter) -> str:
        return self._topology.out(letter.bot_id) if letter.bot_id is not None else ""

    def _letter(self, entry_id: Any, fields: Mapping[bytes, bytes] | None) -> DeadLetter:
        values = {text_of(name): value for name, value in (fields or {}).items()}
        words = {name: text_of(value) for name, value in values.items() if name != FIELD}
        stream, own_id = words.get("stream", ""), text_of(entry_id)
        bot_id = self._topology.bot_of_out(stream)
        return DeadLetter(
            id=own_id,
            at=entry_order(own_id)[0] / 1000,
            stream=stream,
            entry_id=words.get("id", ""),
            reason=words.get("reason", ""),
            bot_id=bot_id if bot_id is not None else self._topology.bot_of_mailbox(stream),
            group=self._topology.group_of(stream),
            event_id=words.get("event", ""),
            type=words.get("type", ""),
            source=words.get("source", ""),
            attempts=int(words.get("attempts") or 1),
            body=values.get(FIELD, b""),
            size=int(words.get("size") or 0),
        )


class _Named(msgspec.Struct):
    id: str = ""
    type: str = ""
    source: str = ""


_named_decoder = msgspec.json.Decoder(_Named)


def _named(body: bytes) -> tuple[str, str, str]:
    """Id, type and source of what may be an event."""
    try:
        found = _named_decoder.decode(body)
    except (ValueError, RecursionError):
        return "", "", ""
    return found.id[:100], found.type[:100], found.source[:100]


def _checked(letter_id: str) -> str:
    if _ID.fullmatch(letter_id) is None:
        raise UsageError(f"{letter_id!r} is no id of a dead letter", hint="They look like 1718000000000-0.")
    return letter_id
