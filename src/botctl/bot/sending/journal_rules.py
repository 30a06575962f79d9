"""The rules of the send journal. Pure: what is to be done with a call, given what is recorded of it.

A call of a handler has a number within its cause. On a replay, call n that is recorded is answered from the journal;
one with another method or chat is a divergence: it is never answered from the journal, and neither is any later call of
that attempt. Diverging calls are made, numbered behind everything recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from botctl.storage.cleaning import clean_text
from botctl.storage.sends import SendRow


@dataclass(frozen=True)
class Recorded:
    """Answer with what Telegram answered then."""

    row: SendRow


@dataclass(frozen=True)
class Refused:
    """Raise the error with which Telegram refused then."""

    row: SendRow


@dataclass(frozen=True)
class Make:
    """Make the call. `known`: its row is there already; `uncertain`: it was begun, and nobody knows what came of it;
    `again`: an earlier one may have arrived, and that has been counted.
    """

    n: int
    known: bool = False
    uncertain: bool = False
    again: bool = False


@dataclass(frozen=True)
class Skip:
    """Don't make the call: an earlier one may have arrived. `recorded`: that was decided before."""

    n: int
    recorded: bool = False


Decision = Recorded | Refused | Make | Skip


@dataclass
class Journal:
    """What is recorded of one cause, and how far this attempt has come."""

    recorded: dict[int, SendRow] = field(default_factory=dict)
    next: int = 0
    diverged: bool = False
    divergences: int = 0
    repeated: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    """Calls that this attempt has begun and that have no outcome yet."""

    def begin(self, rows: list[SendRow]) -> None:
        """An attempt begins; `rows` are those of earlier attempts."""
        self.recorded = {row.n: row for row in rows}
        self.next = 0
        self.diverged = False
        self.repeated = set()
        self.open = set()

    def decide(self, method: str, chat_id: int | None, *, resend: bool) -> Decision:
        """What to do with the next call. `resend`: the bot's `on_uncertain`."""
        if self.diverged:
            return Make(self._take())
        row = self.recorded.get(self.next)
        if row is None:
            return Make(self._take())
        if row.method != method or row.chat_id != chat_id or row.mode != "inline":
            self.diverged = True
            self.divergences += 1
            self.next = self._behind()
            return Make(self._take())
        n = self._take()
        self.repeated.add(n)
        if row.state == "sent":
            return Recorded(row)
        if row.state == "failed":
            return Refused(row)
        if row.state == "skipped":
            return Skip(n, recorded=True)
        if row.state == "planned":
            return Make(n, known=True, again=row.uncertain > 0)
        return Make(n, known=True, uncertain=True) if resend else Skip(n)

    def reserve(self, count: int) -> int:
        """Numbers for deferred sends, behind all others of the cause; returns the first."""
        first = max(self.next, self._behind())
        self.next = first + count
        return first

    @property
    def leftovers(self) -> bool:
        """Whether calls have no outcome: of earlier attempts and not repeated, or cut short in this one."""
        unfinished = ("planned", "sending")
        return bool(self.open) or any(
            row.mode == "inline" and row.state in unfinished and n not in self.repeated
            for n, row in self.recorded.items()
        )

    def _behind(self) -> int:
        return max(self.recorded, default=-1) + 1

    def _take(self) -> int:
        n = self.next
        self.next += 1
        return n


def describe_error(error: BaseException) -> str:
    """An error of Telegram as it is kept in a row."""
    return clean_text(f"{type(error).__name__}: {error}")


def split_error(text: str | None) -> tuple[str, str]:
    """Class name and message of a kept error."""
    name, separator, message = (text or "").partition(": ")
    return (name, message) if separator else ("TelegramError", text or "refused")


def recordable(value: Any) -> Any:
    """Parameters of a call as they are kept: texts as PostgreSQL takes them, files and other objects by their kind."""
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, int | float | bool):
        return value
    if isinstance(value, dict):
        return {clean_text(str(key)): recordable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [recordable(item) for item in value]
    return f"<{type(value).__name__}>"
