"""The faults in force: which call is hit by which. Decides only; time comes from the clock it is given."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botctl.sandbox.faults.spec import FaultSpec, parse_fault


@dataclass(slots=True)
class Fault:
    """A rule in force, with what it has counted. It is gone when `left` is 0 or its time is over."""

    fault_id: int
    spec: FaultSpec
    added_at: float
    left: int | None
    dice: random.Random
    seen: int = 0
    """Calls that matched, `skip` included."""
    hit: int = 0

    def due(self, now: float) -> bool:
        """Count a matching call; whether this is one to hit."""
        if now < self.added_at + self.spec.start:
            return False
        self.seen += 1
        place = self.seen - self.spec.skip
        if place <= 0 or place % self.spec.every:
            return False
        return self.spec.chance >= 1 or self.dice.random() < self.spec.chance

    def over(self, now: float) -> bool:
        """Whether it can't hit anything any more."""
        return self.left == 0 or (self.spec.until is not None and now >= self.added_at + self.spec.until)

    def as_json(self) -> dict[str, Any]:
        """The rule as the operator API shows it."""
        shown = self.spec.model_dump(mode="json", by_alias=True)
        return {"fault_id": self.fault_id, **shown, "times": self.left, "seen": self.seen, "hit": self.hit}


class FaultBox:
    """The rules in force, oldest first; each call is hit by at most one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults: list[Fault] = []
        self._next_id = 1
        self._clock = clock

    def add(self, raw: object) -> Fault:
        """Take up a rule; raises FaultError."""
        spec = raw if isinstance(raw, FaultSpec) else parse_fault(raw)
        dice = random.Random(spec.seed)  # a plan, no secret
        fault = Fault(self._next_id, spec, self._clock(), spec.times, dice)
        self._next_id += 1
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> list[int]:
        """Drop one rule, or all; the ids of those that are gone."""
        dropped = [fault.fault_id for fault in self._faults if fault_id is None or fault.fault_id == fault_id]
        self._faults = [fault for fault in self._faults if fault.fault_id not in dropped]
        return dropped

    def take(self, method: str, bot_id: int | None = None, chat_id: int | None = None) -> Fault | None:
        """The fault for this call, counted as used; None for an unharmed call. `method` is in lower case."""
        now = self._clock()
        for fault in list(self._faults):
            if fault.over(now):
                self._faults.remove(fault)
                continue
            if not fault.spec.hits(method, bot_id, chat_id) or not fault.due(now):
                continue
            fault.hit += 1
            if fault.left is not None:
                fault.left -= 1
                if fault.left == 0:
                    self._faults.remove(fault)
            return fault
        return None

    def __len__(self) -> int:
        return len(self._faults)

    def as_json(self) -> list[dict[str, Any]]:
        """All rules in force."""
        now = self._clock()
        return [fault.as_json() for fault in self._faults if not fault.over(now)]
