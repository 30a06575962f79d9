"""Says what bots do to the bus: in the log, and to whoever looks for threats. Judges nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from botctl.bus.routing.batch import Rejected

_log = structlog.get_logger("botctl.bus.routing.router")

_WARN_EVERY = 60.0


class Complaints:
    """`on_rejected` is told of dead letters, and of whatever else a bot does to the bus that no bot of ours would."""

    def __init__(self, on_rejected: Callable[[Rejected], None] | None = None) -> None:
        self.on_rejected = on_rejected
        self._warned: dict[int, float] = {}

    def warn(self, bot_id: int, what: str) -> None:
        """In the log, at most once a minute for each bot: a flooding bot must not flood the log."""
        now = time.monotonic()
        if now - self._warned.get(bot_id, -_WARN_EVERY) >= _WARN_EVERY:
            self._warned[bot_id] = now
            _log.warning(what, bot_id=bot_id)

    def refused(self, rejected: Rejected) -> None:
        """There is a dead letter."""
        self.warn(rejected.bot_id, f"event refused, see the dead letters: {rejected.reason}")
        if self.on_rejected is not None:
            self.on_rejected(rejected)

    def accuse(self, bot_id: int, what: str) -> None:
        """Of something else."""
        if self.on_rejected is not None:
            self.on_rejected(Rejected(bot_id, "", what, b""))
