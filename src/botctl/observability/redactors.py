"""A redactor for each log of the daemon: a bot's lines are freed of its own secrets and of what is known to all.

Not one for all: a line would cost as much more as there are bots. Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from botctl.observability.redaction import Redactor

MOST = 64
"""Secrets of one log; beyond, the oldest are forgotten. Passwords change daily, and an old one opens nothing."""


class Redactors:
    """`common` counts for every log. Keeping and redacting may happen in different threads."""

    def __init__(self) -> None:
        self.common = Redactor()
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, None]] = {}
        self._own: dict[str, Redactor] = {}

    def keep(self, name: str, secrets: Iterable[str]) -> None:
        """These are never to stand in the log of this name."""
        with self._lock:
            kept = self._kept.setdefault(name, {})
            before = len(kept)
            kept.update(dict.fromkeys(secrets))
            if len(kept) > MOST:
                kept = self._kept[name] = dict.fromkeys(list(kept)[-MOST // 2 :])
            elif len(kept) == before and name in self._own:
                return
            self._own[name] = Redactor(kept, beside=self.common, disguised=True)

    def forget_all_but(self, names: Collection[str]) -> None:
        """The others are gone, with their logs."""
        with self._lock:
            for name in self._own.keys() - set(names):
                del self._own[name], self._kept[name]

    def redact(self, name: str, lines: bytes) -> bytes:
        """Whole lines for the log of this name, without secrets."""
        return self._own.get(name, self.common).redact_bytes(lines)
