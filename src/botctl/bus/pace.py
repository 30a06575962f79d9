"""How much a relay sends at once, so that what has waited for long doesn't pile up in Redis instead. Pure.

The server has a share of its memory for what is not routed yet, all bots together (`room.py`), and cuts what is beyond
it: of all that waits in PostgreSQL nothing may be lost there. So a bot keeps little under way, and more only when the
router keeps up with it.
"""

from __future__ import annotations

FIRST = 50
"""Rows in a batch while the router doesn't keep up: 500 bots' take some 15 MB."""

MOST = 500
ROOM = 32 * 1024
"""Bytes of a bot, about, that may lie in its out stream when the next batch is sent; one entry may in any case."""

FIRST_BYTES = 32 * 1024
MOST_BYTES = 1024 * 1024
_OVERHEAD = 150
"""Bytes that the server needs for an entry besides its own."""


class Pace:
    """Of one relay. `most`: rows of a batch at most."""

    def __init__(self, most: int = MOST) -> None:
        self.rows = 1
        """Rows that the next batch may have."""
        self.bytes = FIRST_BYTES
        """Bytes that it may have, about."""
        self.crowded = False
        """Whether it has to wait until less lies in the out stream."""
        self._most = most
        self._allowed = 1

    def sent(self, rows: int, size: int, length: int) -> None:
        """So many rows of so many bytes were sent; so many entries lie in the out stream now."""
        self._allowed = max(1, rows and ROOM // (size // rows + _OVERHEAD))
        self.look(length)
        if self.crowded:
            self.slow_down()
        elif rows >= self.rows or size >= self.bytes:
            if self.rows >= FIRST or size >= self.bytes:
                self.bytes = min(MOST_BYTES, self.bytes * 2)
            self.rows = min(self._most, self.rows * 2)

    def look(self, length: int) -> None:
        """So many entries lie in the out stream now."""
        self.crowded = length > self._allowed

    def slow_down(self) -> None:
        """Send little again, since the router doesn't keep up."""
        self.rows, self.bytes = min(self.rows, FIRST), FIRST_BYTES

    def feel_the_way(self) -> None:
        """One row alone, after an error.

        What refused a row may end in the middle of a batch (the stream is made, memory is freed): those behind it would
        then get in before it.
        """
        self.rows, self.bytes = 1, FIRST_BYTES
