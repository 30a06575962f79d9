"""Seals the audit log and publishes each seal outside the database; forgets what is older than the operator keeps.

The file only grows: where it and the database disagree, nothing is added to it until somebody has looked.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import audit
from botctl.storage.audit_head import HeadLine, append_head, last_line

_log = structlog.get_logger("botctl.control.audit")

SEAL_EVERY = 5.0
"""Seconds. What is written since the last seal is not protected yet."""

FORGET_EVERY = 3600.0
AT_ONCE = 1000
PATIENCE = 600.0
"""Seconds that an entry may wait for its seal before it is a problem: a transaction somewhere is left open."""


class Sealer:
    """`head` is the file, `days` how long entries are kept. `problem` is None while all is well."""

    def __init__(self, engine: AsyncEngine, head: Path, days: int, *, interval: float = SEAL_EVERY) -> None:
        self.problem: str | None = None
        self.head = head
        self._engine = engine
        self._days = days
        self._interval = interval
        self._forget_at = 0.0

    async def run(self) -> None:
        """Seal until cancelled."""
        while True:
            try:
                problem = await self.tick()
            except DATABASE_TROUBLE as error:
                # That the database is away, others tell; here only a file can be what fails.
                problem = self.problem
                _log.debug("the audit log was not sealed", reason=database_reason(error))
            if problem is not None and problem != self.problem:
                _log.error("the audit log is in trouble", reason=problem)
            self.problem = problem
            await asyncio.sleep(self._interval)

    async def tick(self) -> str | None:
        """Seal what can be sealed, publish it, forget what is old; what is wrong. Raises what the database raises."""
        while await self._seal():
            pass
        problem = await self._publish()
        if problem is not None:
            return problem
        now = time.monotonic()
        if now >= self._forget_at:
            async with self._engine.begin() as connection:
                cutoff = await audit.forget(connection, self._days)
            self._forget_at = now + FORGET_EVERY
            if cutoff is not None:
                _log.info("old entries of the audit log were forgotten", before=_day(cutoff), days=self._days)
                problem = await self._publish()
        async with self._engine.connect() as connection:
            waiting, unborn = await audit.unsealed(connection)
        if problem is None and unborn:
            many = "1 entry was" if unborn == 1 else f"{unborn} entries were"
            return f"audit: {many} put in by hand: look with `botctl audit verify`"
        if problem is None and waiting is not None and time.time() - waiting > PATIENCE:
            since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(waiting))
            return f"audit: entries since {since} UTC can't be sealed: a transaction in this PostgreSQL is left open"
        return problem

    async def _seal(self) -> int:
        async with self._engine.begin() as connection:
            return await audit.seal(connection)

    async def _publish(self) -> str | None:
        """Add the seals that the file doesn't have; why that can't be done."""
        try:
            published = await asyncio.to_thread(last_line, self.head)
            while True:
                async with self._engine.connect() as connection:
                    if published is not None:
                        kept = await audit.seal_digest(connection, published.seal)
                        if kept != published.digest:
                            return self._disagreement(published, kept)
                    fresh = await audit.seals_after(connection, published.seal if published is not None else 0, AT_ONCE)
                if not fresh:
                    return None
                await asyncio.to_thread(append_head, self.head, fresh)
                published = fresh[-1]
                entries = sum(line.entries for line in fresh)
                _log.info("the audit log was sealed", seal=published.seal, digest=published.digest, entries=entries)
        except TimeoutError:
            raise
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise
            return f"audit: the head can't be written to {self.head}: {error.strerror or error}"

    def _disagreement(self, published: HeadLine, kept: str | None) -> str:
        what = "is not in the database" if kept is None else "is another one in the database"
        return (
            f"audit: seal {published.seal}, which was published in {self.head}, {what}: look with"
            " `botctl audit verify`; to begin anew, move that file away"
        )


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
