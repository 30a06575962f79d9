"""What the supervisor does about an error of its own: it tells of it and goes on, for all its bots would end with it.

It mends nothing. Errors that keep coming end the daemon, so that whoever watches it starts a new one.
"""

from __future__ import annotations

import time
import traceback
from collections import deque

from botctl.runtime.owner import Owner

PERIOD = 60.0
MOST = 100
"""Errors within the period after which the daemon can't be trusted to do its work."""

LINES = 6
"""Of a traceback, from its end: enough to find the place."""


class Defects:
    """`take` is called with each error that reached the loop."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._times: deque[float] = deque()
        self._broken = False

    def take(self, error: Exception) -> None:
        """Tell of it. Raises it again when errors went on after the daemon had been declared broken."""
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] < now - PERIOD:
            self._times.popleft()
        where = "".join(traceback.format_exception(error)).rstrip().splitlines()[-LINES:]
        self._owner.log("error", "an error of the supervisor itself", error=repr(error)[:500], where=where)
        if len(self._times) <= MOST:
            return
        if self._broken:
            raise error
        self._broken = True
        self._times.clear()
        self._owner.broken(f"more than {MOST} errors of its own within {PERIOD:g} s, the last: {error!r}"[:500])
