"""A member's side of a group: from the mailbox that several bots share into this bot's inbox.

An entry that a member has read and not acknowledged within a minute goes to another (`bus/reading/groups.py`), which
can't know what this one has stored. So what isn't stored within `STORE_WITHIN` seconds of the read is left, and read
again as whatever is then still this member's. When two members handle the same event all the
same is said in docs/bus.md, "Groups".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from botctl.bot.database import Database
from botctl.bot.exchange.reactions import count_stored, rows_of
from botctl.bot.receiving.intake import Intake
from botctl.bot.vitals.health import Health
from botctl.bus.reading.mailbox import Mailbox

STORE_WITHIN = 20.0
"""Seconds; a third of what `IDLE` in `bus/reading/groups.py` allows."""

_AT_ONCE = 20
"""Entries read at once: what one member has read, no other one works on."""

_log = structlog.get_logger("botctl.bot.groups")


async def share(mailbox: Mailbox, database: Database, intake: Intake, health: Health, well: Callable[[], None]) -> None:
    """Move entries of the group's mailbox into the inbox until cancelled. `well` and what it raises: as `collect`."""
    loop = asyncio.get_running_loop()
    while True:
        if mailbox.again:  # Each time an entry comes again counts; not while nothing can be stored.
            await database.statement(lambda connection: connection.exec_driver_sql("SELECT 1"))
        began = loop.time()
        entries = await mailbox.read(_AT_ONCE)
        if not entries:
            well()
            continue
        read = loop.time() if loop.time() - began < STORE_WITHIN / 2 else began
        rows = rows_of(entries)
        try:
            async with asyncio.timeout_at(read + STORE_WITHIN):
                stored = await intake.store(rows)
        except TimeoutError:
            _log.warning("what a group has for this bot could not be stored in time and is left", entries=len(entries))
            mailbox.leave()
            continue
        count_stored(rows, stored, health)
        await mailbox.ack([entry.id for entry in entries])
        well()
