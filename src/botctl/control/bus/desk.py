"""What the API asks about the bus, done: grants to programs outside, replays, lags. Speaks no HTTP.

A grant's password is made by whoever asks for the grant; only its hash comes here.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.grants import NAME, GrantAdmin
from botctl.bus.client import AWAY, reason
from botctl.bus.event_types.subscriptions import is_pattern, matches
from botctl.bus.events import Event, Log
from botctl.bus.reading.replay import Replayed, Replayer, from_id, from_time
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.roster import Roster
from botctl.bus.topology import Receiver, Topology
from botctl.control.bus.grant_keeper import GrantKeeper, grant_of
from botctl.control.bus.lag_watch import BusWatch
from botctl.control.bus.views import GrantBody, GrantsBody, ReplayLine
from botctl.control.pulse import Pulse
from botctl.control.views import BusView
from botctl.errors import BotctlError, NoSuchBotError, UsageError
from botctl.storage import grants as registry
from botctl.storage.grants import StoredGrant

_log = structlog.get_logger("botctl.control.bus.desk")

_HASH = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = 5.0


@dataclass(frozen=True)
class ReplayWish:
    """`to` is a bot's name, `group:NAME` or `grant:NAME`. Times in seconds since the epoch; ids are of entries."""

    to: str
    since: float | None = None
    first: str | None = None
    until: float | None = None
    last: str | None = None
    type: str | None = None
    dry_run: bool = False


class BusDesk:
    """`url` is how Redis is reached, without a login; `settle` has the bus keeper look at once, False if it can't."""

    def __init__(
        self,
        engine: AsyncEngine,
        streams: Callable[[], Redis],
        topology: Topology,
        keeper: GrantKeeper,
        admin: GrantAdmin,
        watch: BusWatch,
        guard: GrantGuard,
        roster: Callable[[], Roster],
        settle: Callable[[float], Any],
        url: str,
    ) -> None:
        self._engine = engine
        self._streams = streams
        self._topology = topology
        self._keeper = keeper
        self._admin = admin
        self._watch = watch
        self._guard = guard
        self._roster = roster
        self._settle = settle
        self._url = url
        self._pulse = Pulse(engine)

    async def lag(self) -> BusView:
        """How far every reader is, now; as last known while Redis is away."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._watch.look()
        except AWAY as error:
            _log.info("the lag is what it was when last looked at", reason=reason(error))
        return self._watch.view(everybody=True)

    def glance(self) -> BusView:
        """As last looked at; asks nobody."""
        return self._watch.view(everybody=False)

    async def grants(self) -> GrantsBody:
        """Every grant that stands."""
        await self.lag()
        return GrantsBody(grants=[self._body(grant) for _, grant in sorted(self._keeper.grants.items())])

    async def grant(
        self, name: str, logs: list[str], group: str | None, password_sha256: str, since: float | None, start: str
    ) -> GrantBody:
        """Let a program read logs. `start` is `end`, `beginning` or `since` a moment. Raises UsageError."""
        for word, what in ((name, "name"), (group or name, "group")):
            if NAME.fullmatch(word) is None:
                raise UsageError(
                    f"{word!r} is no {what} of a grant: up to 32 lower-case letters, digits, - and _, no - or _ first"
                )
        if not logs or set(logs) - {log.value for log in Log}:
            raise UsageError("name one log at least", hint=f"There are: {', '.join(Log)}.")
        if _HASH.fullmatch(password_sha256) is None:
            raise UsageError("the password's hash is no SHA-256 in hexadecimal digits")
        mates = [one for one in self._keeper.grants.values() if one.group_name == (group or name)]
        if mates and group is None:
            raise UsageError(
                f"{mates[0].name} reads as group {name} already", hint="Give another name, or share it with --group."
            )
        stored = StoredGrant(
            name=name,
            logs=tuple(sorted(set(logs))),
            group_name=group or name,
            group_key=mates[0].group_key if mates else secrets.token_hex(16),
            password_sha256=password_sha256,
            start_id=await self._start(start, since),
        )
        if not await self._pulse.within(self._store(stored)):
            raise UsageError(
                f"{name} has a grant already", hint=f"`botctl events revoke {name}` first; what it has not read stays."
            )
        self._keeper.add(stored, at_end=start == "end" and not mates)
        made = bool(await self._settle(_TIMEOUT))
        _log.info("a program outside may read logs", grant=name, logs=stored.logs)
        return self._body(self._keeper.grants[name], made=made)

    async def revoke(self, name: str) -> str:
        """Take a grant back: connections end at once. Raises UsageError for one that doesn't stand."""
        if not await self._pulse.within(self._unstore(name)):
            names = ", ".join(self._keeper.grants)
            raise UsageError(f"there is no grant {name!r}", hint=f"There are: {names}." if names else None)
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._keeper.remove(name)
        except AWAY as error:
            return f"{name} may read no more; its Redis user goes when Redis is back ({reason(error)})"
        await self._settle(_TIMEOUT)
        return f"{name} may read no more; its connections were ended"

    async def replay(self, wish: ReplayWish) -> AsyncIterator[ReplayLine]:
        """Give events once more. Raises before the first line for what can't be done; later it stands in the last."""
        if wish.type is not None and not is_pattern(wish.type):
            raise UsageError(f"{wish.type!r} is no event type or pattern, such as order.placed or order.*")
        after = from_id(wish.first) if wish.first else from_time(wish.since if wish.since is not None else 0.0)
        if wish.to.startswith("grant:"):
            return await self._move(wish, after)
        receiver, wanted = self._consumer(wish)
        until = wish.last or (from_time(wish.until) if wish.until is not None else None)
        redis = self._streams()
        mark = f"r{int(time.time() * 1000):x}"
        try:
            await redis.ping()
        except AWAY as error:
            await redis.aclose()
            raise BotctlError(f"nothing can be replayed: {reason(error)}") from error
        replayer = Replayer(redis, self._topology)

        async def lines() -> AsyncIterator[ReplayLine]:
            said = ReplayLine(to=wish.to, mark=mark, dry_run=wish.dry_run)
            try:
                async for done in replayer.replay(
                    receiver, wanted, mark, after=after, until=until, dry_run=wish.dry_run
                ):
                    said = _line(said, done)
                    yield said
            except BotctlError as error:
                yield said.model_copy(update={"error": error.message, "hint": error.hint or ""})
            except AWAY as error:
                hint = f"Go on with what follows {said.last}" if said.last else ""
                yield said.model_copy(update={"error": reason(error), "hint": hint})
            else:
                if not wish.dry_run:
                    _log.info("events were replayed", to=wish.to, events=said.given, mark=mark)
                yield said.model_copy(update={"done": True})
            finally:
                await redis.aclose()

        return lines()

    async def _move(self, wish: ReplayWish, after: str) -> AsyncIterator[ReplayLine]:
        name = wish.to.removeprefix("grant:")
        if wish.type is not None or wish.until is not None or wish.last is not None:
            raise UsageError("a grant's group can only be put back: --until and --type are for bots")
        stored = self._keeper.grants.get(name)
        if stored is None:
            raise UsageError(f"there is no grant {name!r}")
        grant, moved = grant_of(stored), dict[str, int | None]()
        try:
            for log in grant.logs:
                moved[log.value] = await (
                    self._admin.count(log, after) if wish.dry_run else self._admin.move(grant, log, after)
                )
        except AWAY as error:
            raise BotctlError(f"nothing more can be replayed: {reason(error)}") from error
        line = ReplayLine(to=wish.to, dry_run=wish.dry_run, moved=moved, done=True)

        async def lines() -> AsyncIterator[ReplayLine]:
            yield line

        return lines()

    def _consumer(self, wish: ReplayWish) -> tuple[Receiver, Callable[[Event], bool]]:
        """Whose mailbox, and which events: what it subscribes to, and of these what was asked for."""
        roster = self._roster()
        receiver: Receiver
        if wish.to.startswith("group:"):
            receiver = wish.to.removeprefix("group:")
            if receiver not in roster.groups:
                raise UsageError(f"no group is called {receiver!r}")
        else:
            bot_id = roster.ids().get(wish.to)
            if bot_id is None:
                raise NoSuchBotError(f"no bot is called {wish.to!r}")
            receiver = bot_id
        fanout = Fanout()
        fanout.update(roster)
        pattern = wish.type

        def wanted(event: Event) -> bool:
            publisher = int(event.source.removeprefix("bot:")) if event.source.startswith("bot:") else 0
            return (pattern is None or matches(pattern, event.type)) and receiver in fanout.receivers(event, publisher)

        return receiver, wanted

    async def _start(self, start: str, since: float | None) -> str:
        if start == "beginning":
            return "0-0"
        if since is not None:
            return from_time(since)
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._admin.here()
        except AWAY:
            return from_time(time.time())

    async def _store(self, stored: StoredGrant) -> bool:
        async with self._engine.begin() as connection:
            return await registry.save(connection, stored)

    async def _unstore(self, name: str) -> bool:
        async with self._engine.begin() as connection:
            return await registry.revoke(connection, name)

    def _body(self, stored: StoredGrant, *, made: bool = True) -> GrantBody:
        grant = grant_of(stored)
        off = self._guard.kept_off().get(grant.name)
        return GrantBody(
            name=grant.name,
            logs=[log.value for log in grant.logs],
            url=self._url,
            user=self._watch.user(grant.name),
            group=grant.group,
            streams=[self._topology.log(log) for log in grant.logs],
            since=stored.granted_at or time.time(),
            start=grant.start,
            kept_off=f"{off[0]}, for {off[1]:.0f} s more" if off is not None else "",
            made=made,
            readers=self._watch.of_grant(grant.name),
        )


def _line(said: ReplayLine, done: Replayed) -> ReplayLine:
    return said.model_copy(
        update={
            "looked_at": done.looked_at,
            "given": done.given,
            "left_out": done.left_out,
            "by_type": done.by_type,
            "last": done.last,
        }
    )
