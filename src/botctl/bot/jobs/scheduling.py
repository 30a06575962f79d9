"""The part of BotContext that is about jobs: what a bot is to do later, once or again and again."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, overload

from botctl.bot.handling.scope import active
from botctl.bot.jobs.desk import Callback, JobDesk
from botctl.bot.jobs.rules import planned
from botctl.storage.jobs import StoredJob


class Scheduling:
    """Jobs are kept in the database: they survive restarts, and are handled as updates are."""

    _jobs: JobDesk

    async def schedule(
        self,
        name: str,
        *,
        at: datetime | None = None,
        after: float | timedelta | None = None,
        every: float | timedelta | None = None,
        daily_at: time | str | None = None,
        timezone: str = "UTC",
        chat_id: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Call the callback of `on_job` later: `at` a time, `after` seconds, `every` so many seconds, or `daily_at`.

        `name` is what it is, or with a colon which of several: `report`, `reminder:4711`; a job of the same name is
        replaced. `every` may be joined with `at` or `after` for its first time. `daily_at` is `HH:MM` on a clock in
        `timezone`. `chat_id`: it is handled in turn with what comes from that chat. `data`: JSON.

        While something is handled, the job is committed with the end of the handling, and a replay doesn't make a
        second one. A job whose time comes while the bot is down runs late: once, however many of its times were missed.
        Raises ValueError for times, names and data that make no sense.
        """
        scope = active()
        job = planned(
            name,
            self._jobs.now,
            at=at,
            after=after,
            every=every,
            daily_at=daily_at,
            timezone=timezone,
            chat_id=chat_id,
            data=data,
            trace_id=scope.trace_id if scope is not None else "",
        )
        await self._jobs.put(job)

    async def unschedule(self, name: str) -> None:
        """Forget a job; nothing happens when there is none of this name. One that is due already runs all the same."""
        await self._jobs.cancel(name)

    async def scheduled(self) -> list[StoredJob]:
        """The jobs that wait, the next first; at most 1,000."""
        return await self._jobs.waiting()

    @overload
    def on_job(self, name: str) -> Any: ...

    @overload
    def on_job(self, name: str, callback: Callback) -> Callback: ...

    def on_job(self, name: str, callback: Callback | None = None) -> Any:
        """Call `callback(job)`, a coroutine function, when a job of this name, or `name:…`, is due.

        What it sends is journaled, and it is called again when it raises or the process dies, as handlers of updates
        are. Can be used as a decorator. Raises ValueError for a second callback of a name.
        """

        def register(function: Callback) -> Callback:
            self._jobs.register(name, function)
            return function

        return register if callback is None else register(callback)
