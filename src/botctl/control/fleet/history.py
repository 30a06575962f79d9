"""The history of a bot's deaths: what the database has and what the file has, brought together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from botctl.control.ports import Transition
from botctl.control.views import DeathBody, DeathsBody
from botctl.storage.runs import UNKNOWN_EXIT, OpenRun, StoredDeath

DAY = 86_400.0

CLOSE = 1.0
"""Seconds by which two records of one moment may differ: one may have come from another clock than the other."""


@dataclass(frozen=True, slots=True)
class LateEnd:
    """A run that the database believes to be open, and the record of its end."""

    run: OpenRun
    death: Transition


def late_ends(runs: Iterable[OpenRun], filed: Iterable[Transition]) -> list[LateEnd]:
    """The runs whose end the file tells. An incarnation's number comes again with every daemon; the time doesn't."""
    by_incarnation: dict[tuple[int, int], list[Transition]] = {}
    for death in filed:
        by_incarnation.setdefault((death.bot_id, death.incarnation), []).append(death)
    found = []
    for run in runs:
        for death in by_incarnation.get((run.bot_id, run.incarnation), ()):
            began = began_at(death)
            if began is not None and abs(began - run.started_at) <= CLOSE:
                found.append(LateEnd(run, death))
                break
    return found


def began_at(death: Transition) -> float | None:
    """When the incarnation began; None if nobody knows."""
    return death.at - death.duration if death.duration is not None else None


def is_planned(death: DeathBody) -> bool:
    """Whether it was asked to end: by an operator, a new configuration, the end of the daemon."""
    return death.failure is None and death.exit != UNKNOWN_EXIT


def merged(stored: Sequence[DeathBody], filed: Sequence[DeathBody]) -> list[DeathBody]:
    """Newest first. What both have is told once, as the database has it."""
    known: dict[int, list[float]] = {}
    for death in stored:
        known.setdefault(death.incarnation, []).append(death.ended_at)
    missing = [
        death
        for death in filed
        if not any(abs(death.ended_at - ended) <= CLOSE for ended in known.get(death.incarnation, ()))
    ]
    return sorted([*stored, *missing], key=lambda death: death.ended_at, reverse=True)


def tell_from_file(
    body: DeathsBody,
    filed: Sequence[Transition],
    stored: Sequence[DeathBody],
    limit: int,
    planned: bool,
    *,
    now: float,
    waiting: Sequence[Transition] = (),
) -> None:
    """Put into the body what the database has, `stored`, and what only the file has; both of one bot, newest first.

    `waiting` are deaths on their way to the database; the file may have them too.
    """
    told = {(death.incarnation, death.at): death for death in (*filed, *waiting)}
    ends = [from_file(death) for death in sorted(told.values(), key=lambda one: (one.at, one.seq), reverse=True)]
    body.deaths = merged(stored, [death for death in ends if planned or not is_planned(death)])[:limit]
    if ends and (body.last_end is None or ends[0].ended_at > body.last_end.ended_at + CLOSE):
        body.last_end = ends[0]
    if stored:
        late = merged(stored, [from_file(death) for death in waiting])
        counted = Counter(one.failure for one in late if one.source == "file" and one.failure)
        body.failures_24h = dict(Counter(body.failures_24h) + counted)
    else:
        body.failures_24h = dict(Counter(one.failure for one in ends if one.failure and one.ended_at >= now - DAY))


def from_database(death: StoredDeath) -> DeathBody:
    """As the API tells it."""
    return DeathBody(
        name=death.name,
        bot_id=death.bot_id,
        incarnation=death.incarnation,
        started_at=death.started_at,
        ended_at=death.ended_at,
        duration_s=_rounded(death.duration),
        failure=death.failure,
        exit=death.exit,
        cause=death.cause or "",
        action=death.action or "",
        memory_mb=_rounded(death.memory_mb),
        silent_for_s=_rounded(death.silent_for),
        log_tail=list(death.log_tail),
        stacks=death.stacks or "",
        source="database",
    )


def from_file(death: Transition) -> DeathBody:
    """As the API tells it; also what waits to be stored, which the file has too when there was room."""
    return DeathBody(
        name=death.name,
        bot_id=death.bot_id,
        incarnation=death.incarnation,
        started_at=began_at(death),
        ended_at=death.at,
        duration_s=_rounded(death.duration),
        failure=death.failure,
        exit=death.exit,
        cause=death.cause or death.reason,
        action=death.action,
        memory_mb=_rounded(death.memory_mb),
        silent_for_s=_rounded(death.silent_for),
        log_tail=list(death.log_tail),
        stacks=death.stacks,
        source="file",
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(max(0.0, value), 2)
