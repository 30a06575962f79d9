"""Faults that an operator asks for: which calls they hit, and what happens to those calls.

Decides only; the two HTTP apps carry a fault out. Holds no clock and sleeps nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class FaultError(ValueError):
    """A fault was described wrongly; the message says which field and why."""


class When(StrEnum):
    """Whether the call takes effect before the fault shows."""

    BEFORE = "before"
    """The call has no effect (a mere delay excepted: after it the call goes on)."""
    AFTER = "after"
    """The call takes its full effect; only the answer is harmed."""


@dataclass(slots=True)
class Fault:
    """One rule. `times` counts down; the rule is gone at 0."""

    fault_id: int
    method: str = "*"
    """Method name in any case, or `*` for every method."""
    bot_id: int | None = None
    chat_id: int | None = None
    skip: int = 0
    """Let so many matching calls pass unharmed first."""
    times: int | None = 1
    """How many calls are hit; None is for ever."""
    when: When = When.BEFORE
    delay: float = 0.0
    """Seconds to wait, before or after the effect."""
    status: int | None = None
    """Answer with this HTTP status instead of the true answer."""
    description: str | None = None
    retry_after: int | None = None
    body: str | None = None
    """Answer with exactly this text (for answers that are no JSON)."""
    cut: bool = False
    """Close the connection without an answer."""
    hang: bool = False
    """Never answer; the connection stays open until the client gives up."""
    after_chunks: int | None = None
    """Streams only: send so many pieces of text, then cut the connection."""

    def hits(self, method: str, bot_id: int | None, chat_id: int | None) -> bool:
        """Whether the rule is about this call."""
        return (
            (self.method == "*" or self.method == method)
            and (self.bot_id is None or self.bot_id == bot_id)
            and (self.chat_id is None or self.chat_id == chat_id)
        )

    @property
    def answers(self) -> bool:
        """Whether the true answer is replaced or withheld."""
        return self.status is not None or self.body is not None or self.cut or self.hang

    def as_json(self) -> dict[str, Any]:
        """The rule as the operator API shows it."""
        return asdict(self)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "bot_id": (int,),
    "chat_id": (int,),
    "skip": (int,),
    "times": (int,),
    "when": (str,),
    "delay": (int, float),
    "status": (int,),
    "description": (str,),
    "retry_after": (int,),
    "body": (str,),
    "cut": (bool,),
    "hang": (bool,),
    "after_chunks": (int,),
}


def parse_fault(fault_id: int, raw: object) -> Fault:
    """A fault from the operator's JSON. Raises FaultError on unknown fields, wrong types and senseless values."""
    if not isinstance(raw, dict):
        raise FaultError("a fault is a JSON object")
    for key, value in raw.items():
        if key not in _KINDS:
            raise FaultError(f"unknown field {key!r}; known: {', '.join(_KINDS)}")
        if value is not None and (
            not isinstance(value, _KINDS[key]) or (isinstance(value, bool) and bool not in _KINDS[key])
        ):
            raise FaultError(f"field {key!r} has the wrong type: {value!r}")
    fields = {key: value for key, value in raw.items() if value is not None or key == "times"}
    try:
        when = When(fields.pop("when", When.BEFORE))
    except ValueError as error:
        raise FaultError("field 'when' is 'before' or 'after'") from error
    fault = Fault(fault_id, when=when, **fields)
    fault.method = fault.method.lower()
    if fault.times is not None and fault.times < 1:
        raise FaultError("field 'times' is at least 1, or null for ever")
    if fault.skip < 0 or fault.delay < 0:
        raise FaultError("fields 'skip' and 'delay' can't be negative")
    if fault.status is not None and not 200 <= fault.status <= 599:
        raise FaultError("field 'status' is an HTTP status from 200 to 599")
    if fault.retry_after is not None and fault.status is None:
        fault.status = 429
    if not (fault.answers or fault.delay or fault.after_chunks is not None):
        raise FaultError("the fault does nothing: give 'status', 'body', 'delay', 'cut', 'hang' or 'after_chunks'")
    return fault


class FaultBox:
    """The rules in force, oldest first; each call is hit by at most one."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._next_id = 1

    def add(self, raw: object) -> Fault:
        """Take up a rule; raises FaultError."""
        fault = parse_fault(self._next_id, raw)
        self._next_id += 1
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Drop one rule, or all; returns how many were dropped."""
        kept = [] if fault_id is None else [fault for fault in self._faults if fault.fault_id != fault_id]
        dropped = len(self._faults) - len(kept)
        self._faults = kept
        return dropped

    def take(self, method: str, bot_id: int | None = None, chat_id: int | None = None) -> Fault | None:
        """The fault for this call, counted as used; None for an unharmed call. `method` is in lower case."""
        for fault in self._faults:
            if not fault.hits(method, bot_id, chat_id):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            return fault
        return None

    def __len__(self) -> int:
        return len(self._faults)

    def as_json(self) -> list[dict[str, Any]]:
        """All rules in force."""
        return [fault.as_json() for fault in self._faults]
