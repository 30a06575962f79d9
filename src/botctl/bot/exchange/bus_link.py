"""The bot's link to Redis: its outbox goes out, its mailbox comes in. Redis being away degrades the bot, no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from botctl.bot.database import Database
from botctl.bot.exchange.group_work import share
from botctl.bot.exchange.reactions import collect
from botctl.bot.exchange.steady import Steady, Work
from botctl.bot.exchange.waiting_events import WaitingEvents
from botctl.bot.receiving.intake import Intake
from botctl.bot.tasks import end
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.client import connect
from botctl.bus.events import Event
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.relay import Relay
from botctl.bus.topology import Topology
from botctl.storage.outbox import Outbox

_log = structlog.get_logger("botctl.bot.bus")

_CHECK_EVERY = 30.0
"""Seconds after which the outbox is looked at unasked; commits wake the relay at once."""


class BusLink:
    """Raises UsageError for an unusable Redis URL or namespace. Connects at its first command only.

    `hears`: whether its own mailbox is read from the start; else from when it first asks another bot. `groups` are
    those whose mailboxes it shares.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        bot_id: int,
        passwords: Callable[[], tuple[str, ...]],
        database: Database,
        outbox: Outbox,
        health: Health,
        *,
        hears: bool,
        groups: Sequence[str] = (),
    ) -> None:
        topology = Topology(namespace)
        self._health = health
        user = topology.user(bot_id)
        self._redis = connect(url, username=user, passwords=passwords, max_connections=2)
        self._relay = Relay(self._redis, topology, bot_id, WaitingEvents(database, outbox), check_every=_CHECK_EVERY)
        # Each mailbox takes one connection to wait with, and now and then one to acknowledge with.
        self._blocking = connect(
            url, username=user, passwords=passwords, blocking=True, max_connections=2 * (1 + len(groups))
        )
        self._mailbox = Mailbox(self._blocking, topology, bot_id)
        self._groups = {group: Mailbox(self._blocking, topology, bot_id, group) for group in groups}
        self._database = database
        self._hears = hears
        self._steady = Steady(health)
        self._read: Work | None = None
        """Reads the own mailbox, once it has begun."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, intake: Intake, take_replies: Callable[[Sequence[Event]], Awaitable[None]]) -> None:
        """Begin to relay and to collect; `take_replies` is given replies to requests of its own."""
        self._read = partial(collect, self._mailbox, intake, self._health, take_replies)
        self._tasks = [asyncio.create_task(self._relay.run(), name="relay")]
        for name, mailbox in self._groups.items():
            work = partial(share, mailbox, self._database, intake, self._health)
            self._keep(f"the mailbox of group {name}", work, mailbox)
        if self._hears:
            self._hears = False
            self.listen()

    def listen(self) -> None:
        """Read the bot's own mailbox from now on. Costs nothing the second time."""
        if self._read is None:
            self._hears = True  # as soon as it starts
        elif not self._hears:
            self._hears = True
            self._keep("its mailbox", self._read, self._mailbox)

    def _keep(self, what: str, work: Work, mailbox: Mailbox) -> None:
        self._tasks.append(asyncio.create_task(self._steady.keep(what, work, mailbox.leave), name=what))

    def wake(self) -> None:
        """Events have been committed."""
        self._relay.wake()

    def check(self) -> None:
        """Tell the bot's health how the link is."""
        parts: list[Relay | Mailbox] = [self._relay, self._mailbox, *self._groups.values()]
        reasons = [part.reason for part in parts if not part.healthy and part.reason.startswith("redis")]
        if reasons:
            self._health.trouble(Trouble.REDIS, f"{reasons[0]}; events wait in the database")
        else:
            self._health.well(Trouble.REDIS)

    @property
    def flowing(self) -> bool:
        """Whether committed events are relayed at once."""
        return self._relay.healthy and not self._relay.behind

    async def stop(self, timeout: float) -> None:
        """Relay what is left, within `timeout` seconds, and end the connections."""
        await end(self._tasks)
        if self._relay.healthy and timeout > 0:
            await self._relay.drain(timeout)
        for client in (self._redis, self._blocking):
            with suppress(Exception):
                await client.aclose()
