"""What clients called, kept for assertions: a bounded log and counters that are never cut.

Long texts are shortened in the log: the whole messages are in the transcript.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CALL_LIMIT = 100_000
TEXT_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call. `status` 0 means that no answer was sent."""

    number: int
    at: float
    bot_id: int | None
    method: str
    parameters: Mapping[str, Any]
    status: int
    description: str | None
    fault_id: int | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The call as the operator API shows it."""
        return asdict(self)


class CallLog:
    """The last calls, and counts of all."""

    def __init__(self, limit: int = CALL_LIMIT) -> None:
        self._calls: deque[Call] = deque(maxlen=limit)
        self._number = 0
        self.counts: dict[int | None, Counter[str]] = {}
        self.errors: dict[int | None, Counter[int]] = {}

    def add(
        self,
        bot_id: int | None,
        method: str,
        parameters: Mapping[str, Any],
        status: int,
        *,
        description: str | None = None,
        fault_id: int | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Record one call."""
        self._number += 1
        self.counts.setdefault(bot_id, Counter())[method] += 1
        if status != 200:
            self.errors.setdefault(bot_id, Counter())[status] += 1
        self._calls.append(
            Call(self._number, time.time(), bot_id, method, _short(parameters), status, description, fault_id, seconds)
        )

    def find(
        self, *, after: int = 0, method: str | None = None, bot_id: int | None = None, limit: int = 1000
    ) -> list[Call]:
        """The newest `limit` calls that match, oldest first."""
        found: list[Call] = []
        for call in reversed(self._calls):
            if call.number <= after or len(found) >= limit:
                break
            if (method is None or call.method.lower() == method.lower()) and (bot_id is None or call.bot_id == bot_id):
                found.append(call)
        found.reverse()
        return found

    def __len__(self) -> int:
        return len(self._calls)


def _short(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if not any(isinstance(value, str) and len(value) > TEXT_LIMIT for value in parameters.values()):
        return parameters
    return {
        key: value[:TEXT_LIMIT] + "…" if isinstance(value, str) and len(value) > TEXT_LIMIT else value
        for key, value in parameters.items()
    }
