"""Whom to suspect of a process's end, and whom to give up. Pure: what was under way and what is held against it so far.

A *death* (a crash, a hang, all memory taken) may be the doing of an update that was being worked on. If it was the only
one, it is held against it; of several nobody can know, so each is tried alone from then on.

A *kill* comes from outside as a rule, and says nothing of what was being worked on. But something outside may kill
because of what an update does. Only an experiment tells: an update that was there at several kills in a row rests, and
with it everything else that was there, until the process has lived without them for several times as long as the
update had run. Then it is tried alone. If the process is killed meanwhile, with nothing there that was there before,
kills come from outside and all are cleared. So an update is given up only when every trial of it ended with a kill and
no rest between them did. Kills at random moments look like that to less than one update in a hundred thousand, if it
takes up to a quarter of the longest rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from botctl.storage.interruptions import Mark, UnderWay

TELLING = frozenset({"crash", "hang", "memory", "oom", "exit", "protocol"})
"""Failures (`runtime.messages.Failure`) that an update can be the cause of."""

KILLED = "signal"
"""The failure of a process that was killed from outside."""

DEATHS = 3
"""Deaths after which an update is given up, one of them perhaps in company. Two poisonous updates that begin together
make five: as many as the default restart intensity, at which a bot still is restarted. With the update its deaths are
pardoned (`messages.GaveUp`): it is to be shut away, not the bot."""

KILLS = 5
"""Kills in a row, all during the same update, after which it rests and is tried alone; DEATHS more end it."""

REST = 4.0
"""For so many times as long as an update had run, a process has to live without it before it is tried again."""

REST_LEAST = 1.0
REST_MOST = 60.0
"""Seconds."""


@dataclass(frozen=True)
class Judgement:
    """`excused`: rows whose interrupted attempt is taken back. `marks`: what is held against rows from now on."""

    excused: frozenset[int] = frozenset()
    marks: Mapping[int, Mark] = field(default_factory=dict)

    @property
    def guilty(self) -> frozenset[int]:
        """Who is given up."""
        return frozenset(row for row, mark in self.marks.items() if mark.guilty)

    @property
    def alone(self) -> frozenset[int]:
        """Who is tried with nothing beside it."""
        return frozenset(
            row for row, mark in self.marks.items() if not mark.guilty and (mark.deaths or mark.kills >= KILLS)
        )

    @property
    def rests(self) -> Mapping[int, float]:
        """Seconds from the start of a process in which these rows are not tried."""
        trials = [mark.rest for mark in self.marks.values() if mark.kills >= KILLS and not mark.guilty]
        if not trials:
            return {}
        return {row: max(trials) for row, mark in self.marks.items() if mark.kills and not mark.guilty}


def judge(failure: str, under_way: Mapping[int, UnderWay], marks: Mapping[int, Mark], limit: int) -> Judgement:
    """A process has ended with `failure` while rows were being worked on; `limit`: attempts that a row has."""
    if failure in TELLING:
        return _of_death(under_way, marks, limit)
    if failure == KILLED:
        return _of_kill(under_way, marks, limit)
    return Judgement(frozenset(under_way), marks)


def _of_death(under_way: Mapping[int, UnderWay], marks: Mapping[int, Mark], limit: int) -> Judgement:
    after = dict(marks)
    if len(under_way) == 1:
        for row, its in under_way.items():
            mark = after.get(row, Mark())
            deaths = mark.deaths + 1
            after[row] = replace(mark, deaths=deaths, guilty=mark.guilty or deaths >= DEATHS or its.attempts >= limit)
        return Judgement(frozenset(), after)
    for row in under_way:
        mark = after.get(row, Mark())
        after[row] = replace(mark, deaths=max(mark.deaths, 1))
    return Judgement(frozenset(under_way), after)


def _of_kill(under_way: Mapping[int, UnderWay], marks: Mapping[int, Mark], limit: int) -> Judgement:
    after = dict(marks)
    if not any(row in marks and marks[row].kills for row in under_way):
        # Nothing was there that has been there before: it was not for the sake of those that rest.
        after = {row: replace(mark, kills=0, rest=0.0) for row, mark in marks.items() if mark.deaths or mark.guilty}
    last = KILLS + min(limit, DEATHS)
    for row, its in under_way.items():
        mark = after.get(row, Mark())
        kills = mark.kills + (mark.kills < KILLS or len(under_way) == 1)
        rest = min(max(REST * its.ran, REST_LEAST), REST_MOST) if kills >= KILLS else 0.0
        after[row] = replace(mark, kills=kills, rest=rest, guilty=mark.guilty or kills >= last)
    return Judgement(frozenset(under_way), after)
