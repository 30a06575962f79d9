"""Whose events have to wait because a mailbox fills faster than its bot reads: the sources of most of it. Pure.

What waits stays in its out stream, so that nobody loses another's events to a flood. A bot that does not read, or
not as fast as others publish, can't hold them up for ever: its mailbox is then left to overflow. Counts entries, never
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from botctl.bus.caretaking.room import fair_level
from botctl.bus.topology import Receiver

PATIENCE = 30.0
"""Seconds for which sources wait for a bot that does not read; none are left for one that has not read for long."""

REGAINED = 0.05
"""Seconds of patience that a second brings back in which the bot has read, or had not much to read."""

READS = 100.0
"""Entries a second that a bot must take out of a mailbox that is a quarter full, or others' patience goes."""

WORN = 0.05
"""Seconds of patience that a second costs in which sources wait for a bot that reads: ten minutes in all. However well
it reads, it doesn't decide for good how fast all others publish."""

LOOK_EVERY = 0.1
"""Seconds between two measurements of a mailbox that fills; of one whose bot does not read they are rarer."""

_JUDGE_EVERY = 1.0
_LONGEST = 2 * _JUDGE_EVERY
"""Seconds that count at most between two measurements: nobody could read while the server was away."""

_UNKNOWN = -1
"""The source of what was there before anybody counted."""


@dataclass(slots=True)
class _Mailbox:
    measured_at: float
    judged_at: float
    sources: dict[int, float] = field(default_factory=dict)
    """Unread entries by the bot they came from, about: what is read is taken from all alike."""
    total: float = 0.0
    drained: float = 0.0
    patience: float = PATIENCE
    held: bool = False
    """Whether somebody had to wait since it was last judged."""
    level: float | None = None
    """Entries of one source from which on it waits, once it was computed."""


class Pressure:
    """`clock` in seconds. `limit`: entries at which a mailbox is cut; from half of it on sources wait."""

    def __init__(self, clock: Callable[[], float], limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._mailboxes: dict[Receiver, _Mailbox] = {}
        self._full: set[Receiver] = set()

    def delivered(self, counts: Mapping[tuple[Receiver, int], int]) -> None:
        """So many entries were put into mailboxes, by receiver and source."""
        for (receiver, source), count in counts.items():
            mailbox = self._mailbox(receiver)
            mailbox.sources[source] = mailbox.sources.get(source, 0.0) + count
            mailbox.total += count
        for receiver in {receiver for receiver, _ in counts}:
            self._changed(receiver)

    def measured(self, depths: Mapping[Receiver, int]) -> None:
        """So many entries stand unread, by receiver."""
        for receiver, depth in depths.items():
            if depth or receiver in self._mailboxes:
                self._measured(self._mailbox(receiver), depth)
                self._changed(receiver)

    def to_measure(self) -> list[Receiver]:
        """Mailboxes that may be filling, by what was delivered since they were last measured."""
        now, much = self._clock(), self._limit / 4
        return [
            receiver
            for receiver, mailbox in self._mailboxes.items()
            if mailbox.total > much and now - mailbox.measured_at >= (LOOK_EVERY if mailbox.patience > 0 else _LONGEST)
        ]

    def room(self, source: int) -> int | None:
        """Entries that this bot may publish now; 0: it has to wait, None: as many as it likes."""
        least: float | None = None
        for receiver in self._full:
            mailbox = self._mailboxes[receiver]
            if mailbox.patience <= 0 or source not in mailbox.sources:
                continue
            left = self._level(mailbox) - mailbox.sources[source]
            mailbox.held |= left < 1
            least = left if least is None else min(least, left)
        return None if least is None else max(0, int(least))

    def sources(self, receiver: Receiver, most: int = 3) -> str:
        """Where most of what stands in a mailbox came from, in words; empty if nobody knows."""
        mailbox = self._mailboxes.get(receiver)
        if mailbox is None:
            return ""
        known = [(count, source) for source, count in mailbox.sources.items() if source != _UNKNOWN and count >= 1]
        return ", ".join(
            f"{round(count)} of {f'bot {source}' if source else 'the fleet'}"
            for count, source in sorted(known, reverse=True)[:most]
        )

    def forget(self, receivers: Iterable[Receiver]) -> None:
        """Only these have mailboxes."""
        for receiver in self._mailboxes.keys() - set(receivers):
            del self._mailboxes[receiver]
            self._full.discard(receiver)

    def _mailbox(self, receiver: Receiver) -> _Mailbox:
        found = self._mailboxes.get(receiver)
        if found is None:
            now = self._clock()
            found = self._mailboxes[receiver] = _Mailbox(measured_at=now, judged_at=now)
        return found

    def _measured(self, mailbox: _Mailbox, depth: int) -> None:
        now = self._clock()
        mailbox.measured_at = now
        mailbox.drained += max(0.0, mailbox.total - depth)
        if (seconds := now - mailbox.judged_at) >= _JUDGE_EVERY:
            if mailbox.total > self._limit / 4 and mailbox.drained < READS * seconds:
                mailbox.patience = max(0.0, mailbox.patience - min(seconds, _LONGEST))
            elif mailbox.held:
                mailbox.patience = max(0.0, mailbox.patience - min(seconds, _LONGEST) * WORN)
            elif not self._is_full(mailbox):
                mailbox.patience = min(PATIENCE, mailbox.patience + seconds * REGAINED)
            mailbox.judged_at, mailbox.drained, mailbox.held = now, 0.0, False
        if depth > mailbox.total:
            mailbox.sources[_UNKNOWN] = mailbox.sources.get(_UNKNOWN, 0.0) + depth - mailbox.total
        elif depth:
            part = depth / mailbox.total
            mailbox.sources = {source: count * part for source, count in mailbox.sources.items() if count * part > 0.1}
        else:
            mailbox.sources = {}
        mailbox.total = sum(mailbox.sources.values())

    def _changed(self, receiver: Receiver) -> None:
        mailbox = self._mailboxes[receiver]
        mailbox.level = None
        if self._is_full(mailbox):
            self._full.add(receiver)
        else:
            self._full.discard(receiver)

    def _is_full(self, mailbox: _Mailbox) -> bool:
        unknown = mailbox.sources.get(_UNKNOWN, 0.0)
        return mailbox.total - unknown > self._budget(unknown)

    def _level(self, mailbox: _Mailbox) -> float:
        if mailbox.level is None:
            unknown = mailbox.sources.get(_UNKNOWN, 0.0)
            known = [count for source, count in mailbox.sources.items() if source != _UNKNOWN]
            mailbox.level = fair_level(known, self._budget(unknown))
        return mailbox.level

    def _budget(self, unknown: float) -> float:
        """Entries that all together may have in a mailbox: what was there before them, long unread, holds up nobody."""
        return max((self._limit - unknown) / 2, self._limit / 4)
