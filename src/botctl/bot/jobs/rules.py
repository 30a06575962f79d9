"""Jobs: when they are due, and the inbox row that is made of one that is. Pure: time is an argument.

A job that was due several times while the bot was down runs once, late; then its times go on as before.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from botctl.storage import cleaning
from botctl.storage.inbox import NewRow
from botctl.storage.jobs import StoredJob

NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}(:[^\s\x00\ud800-\udfff]{1,128})?")
"""What it is, and if there are several of it, a colon and which: `reminder:4711`."""

SHORTEST = 1.0
"""Seconds between two times of a repeated job."""

SET_BACK = 5.0
"""Seconds by which a clock was set back, at least, when that matters."""

FARTHEST = 10 * 366 * 86400.0
"""Seconds; what is farther away is taken for a mistake."""


@dataclass(frozen=True)
class Job:
    """A job that is due, as its callback sees it. `due` is when it was to run, `late` how many seconds ago that was."""

    name: str
    due: datetime
    data: dict[str, Any] = field(default_factory=dict)
    chat_id: int | None = None
    late: float = 0.0


def kind_of(name: str) -> str:
    """The part of a job's name by which its callback is found."""
    return name.partition(":")[0]


def planned(
    name: str,
    now: float,
    *,
    at: datetime | None = None,
    after: float | timedelta | None = None,
    every: float | timedelta | None = None,
    daily_at: time | str | None = None,
    timezone: str = "UTC",
    chat_id: int | None = None,
    data: dict[str, Any] | None = None,
    trace_id: str = "",
) -> StoredJob:
    """The job that is asked for. Raises ValueError when the name, the times or the data make no sense together."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a job, such as report or reminder:4711")
    if sum(one is not None for one in (at, after, daily_at)) > 1:
        raise ValueError("give one of at, after and daily_at")
    if every is not None and daily_at is not None:
        raise ValueError("every and daily_at exclude each other")
    period = _seconds(every) if every is not None else None
    if period is not None and not SHORTEST <= period <= FARTHEST:
        raise ValueError("every is at least a second, and at most ten years")
    daily = None
    if daily_at is not None:
        clock_time = time.fromisoformat(daily_at) if isinstance(daily_at, str) else daily_at
        if clock_time.tzinfo is not None:
            raise ValueError("daily_at has no time zone of its own; name it with timezone=")
        daily = clock_time.replace(microsecond=0).isoformat("seconds")
        due = next_daily(daily, timezone, now)
    elif at is not None:
        if at.tzinfo is None:
            raise ValueError("at needs a time zone")
        due = at.timestamp()
    elif after is not None:
        due = now + max(_seconds(after), 0.0)
    elif period is not None:
        due = now + period
    else:
        raise ValueError("give one of at, after, every and daily_at")
    if not due <= now + FARTHEST:  # nor is it no number
        raise ValueError("due in more than ten years")
    if chat_id is not None and not -(2**63) <= chat_id < 2**63:
        raise ValueError(f"{chat_id} is no chat's id")
    cleaned = cleaning.clean(data or {})
    try:
        msgspec.json.encode(cleaned)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the data of a job must be JSON: {error}") from error
    return StoredJob(name, round(max(due, 0.0), 3), period, daily, timezone, chat_id, cleaned, trace_id, set_at=now)


def next_due(job: StoredJob, now: float) -> float | None:
    """When a job that was due runs again: after `now`; None for never."""
    if job.daily_at is not None:
        return next_daily(job.daily_at, job.timezone, max(now, job.due_at))
    if job.every is None:
        return None
    periods = max(math.floor((now - job.due_at) / job.every) + 1, 1)
    return round(job.due_at + periods * job.every, 3)


def pulled_back(job: StoredJob, now: float) -> float | None:
    """The next time of a repeated job that was set, or was due last, while the clock was ahead; None: as it is.

    A first time that was asked for stays, however far away it is.
    """
    if job.set_at <= now + SET_BACK:
        return None
    if job.daily_at is not None:
        try:
            due = next_daily(job.daily_at, job.timezone, now)
        except (ValueError, OverflowError):
            return None
        return due if due < job.due_at else None
    if job.every is None or job.due_at - job.set_at > job.every + SET_BACK or job.due_at <= now + job.every:
        return None
    return round(now + job.every, 3)


def settled(job: StoredJob, now: float) -> tuple[StoredJob, float | None]:
    """A due job with its next time; one whose next time nobody can tell (its zone is gone) says so as its fault."""
    try:
        return job, next_due(job, now)
    except (ValueError, OverflowError) as error:
        return dataclasses.replace(job, fault=job.fault or f"it has no next time: {error}"), None


def next_daily(daily_at: str, timezone: str, after: float) -> float:
    """The next time, after `after`, that a clock in this time zone shows `HH:MM:SS`. Raises ValueError.

    Where the clock is put forward over it, it is as much later; where it is put back, the first of the two.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{timezone!r} is no time zone, such as Europe/Berlin") from error
    shown, day = time.fromisoformat(daily_at), datetime.fromtimestamp(after, zone).date()
    for _ in range(3):
        due = datetime.combine(day, shown, zone).timestamp()
        if due > after:
            return due
        day += timedelta(days=1)
    raise ValueError(f"no {daily_at} in {timezone}")


def row_of(job: StoredJob, new_trace_id: str) -> NewRow:
    """The inbox row of a job that is due. A single one goes on with the trace of what has planned it."""
    payload = {"name": job.name, "due": job.due_at, "chat_id": job.chat_id, "data": job.data}
    repeated = job.every is not None or job.daily_at is not None
    return NewRow(
        cause=f"job:{job.name}:{round(job.due_at * 1000)}",
        update_id=None,
        kind="job",
        lane=f"job:{job.name}" if job.chat_id is None else f"chat:{job.chat_id}",
        payload=cleaning.encode(payload),
        trace_id=new_trace_id if repeated or not job.trace_id else job.trace_id,
        dead=job.fault or None,
    )


def read_job(payload: str, now: float) -> Job:
    """The job in an inbox row. Raises msgspec.DecodeError and KeyError for what is none."""
    raw: dict[str, Any] = msgspec.json.decode(payload)
    due = float(raw["due"])
    return Job(str(raw["name"]), datetime.fromtimestamp(due, UTC), raw["data"], raw["chat_id"], max(now - due, 0.0))


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
