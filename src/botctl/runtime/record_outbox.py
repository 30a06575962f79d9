"""Lifecycle records on their way to `control`: kept until it has stored them, told again to the next one.

Few are under way at a time, so that a `control` that has just come up isn't buried in what the last one missed.
"""

from __future__ import annotations

import sys
from collections import deque

import msgspec

from botctl.runtime import messages

KEPT = 10_000
"""Records; beyond, the oldest are lost to `control`. The file of deaths has them."""

KEPT_BYTES = 16 << 20
"""Of memory for stacks and log lines; beyond, new records are kept without. The file of deaths has those too."""

RECORD_BYTES = 1000
"""About what a record takes without them."""

UNDER_WAY = 200
"""Records that may be told and not yet stored."""


class RecordOutbox:
    """First in, first out; `next` gives each once, until `again` begins anew."""

    def __init__(self) -> None:
        self._records: deque[tuple[messages.Lifecycle, int]] = deque()
        self._bytes = 0
        self._told = 0

    def add(self, record: messages.Lifecycle) -> None:
        """Keep a record; the sequence numbers grow."""
        size = _size(record)
        if self._bytes + size > KEPT_BYTES:
            record = msgspec.structs.replace(record, stacks="", log_tail=[])
            size = _size(record)
        self._records.append((record, size))
        self._bytes += size
        if len(self._records) > KEPT:
            self._drop_oldest()

    def recorded(self, seq: int) -> None:
        """All up to and including this one are stored."""
        while self._records and self._records[0][0].seq <= seq:
            self._drop_oldest()

    def again(self) -> None:
        """Whoever was told is gone: begin with the oldest."""
        self._told = 0

    def next(self) -> messages.Lifecycle | None:
        """The next to be told; None when all have been, or enough are under way."""
        if self._told >= min(len(self._records), UNDER_WAY):
            return None
        self._told += 1
        return self._records[self._told - 1][0]

    def _drop_oldest(self) -> None:
        _, size = self._records.popleft()
        self._bytes -= size
        self._told = max(0, self._told - 1)


def _size(record: messages.Lifecycle) -> int:
    # As the strings stand in memory: a character takes one byte or four.
    return sys.getsizeof(record.stacks) + sum(map(sys.getsizeof, record.log_tail)) + RECORD_BYTES
