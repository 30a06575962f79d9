"""Calls that a fault holds until somebody releases them, and who they are. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botctl.sandbox.signals import Signal


@dataclass(slots=True, eq=False)
class Held:
    """One call that waits. `effect`: whether it has taken effect already."""

    hold_id: int
    fault_id: int
    method: str
    bot_id: int | None
    chat_id: int | None
    effect: bool
    at: float
    release_on: str | None
    owner: object
    """Whoever entered it, to be recognized by."""
    freed: asyncio.Future[bool]
    client_gone: bool = False

    def as_json(self) -> dict[str, Any]:
        """The call as the operator API shows it."""
        return {
            "hold_id": self.hold_id,
            "fault_id": self.fault_id,
            "method": self.method,
            "bot_id": self.bot_id,
            "chat_id": self.chat_id,
            "effect": self.effect,
            "client_gone": self.client_gone,
            "seconds": round(time.time() - self.at, 3),
        }


class Holds:
    """All calls that are held now."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._next_id = 1
        self.changed = Signal()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, fault_id: int | None = None) -> list[Held]:
        """Those of one fault, or all, oldest first."""
        return [held for held in self._held.values() if fault_id is None or held.fault_id == fault_id]

    @contextlib.contextmanager
    def hold(
        self,
        fault_id: int,
        method: str,
        bot_id: int | None,
        chat_id: int | None,
        *,
        owner: object,
        effect: bool,
        release_on: str | None,
        longest: float,
    ) -> Iterator[Held]:
        """Enter a call into the book; its `freed` is True once it may go on, False when it is to be dropped."""
        loop = asyncio.get_running_loop()
        held = Held(
            self._next_id,
            fault_id,
            method,
            bot_id,
            chat_id,
            effect,
            time.time(),
            release_on,
            owner,
            loop.create_future(),
        )
        self._next_id += 1
        self._held[held.hold_id] = held
        timer = loop.call_later(longest, _free, held, True) if longest else None
        self.changed.notify()
        try:
            yield held
        finally:
            if timer is not None:
                timer.cancel()
            self._held.pop(held.hold_id, None)
            self.changed.notify()

    def release(self, fault_id: int | None = None, *, hold_id: int | None = None, drop: bool = False) -> int:
        """Let calls go on, or drop them: then one that has not taken effect never does, and its connection is cut.

        Returns how many there were.
        """
        found = [held for held in self.find(fault_id) if hold_id is None or held.hold_id == hold_id]
        for held in found:
            self._held.pop(held.hold_id, None)
            _free(held, not drop)
        self.changed.notify()
        return len(found)

    def called(self, method: str, bot_id: int | None) -> None:
        """A bot called a method: release what waits for that."""
        for held in list(self._held.values()):
            if held.release_on == method and held.bot_id == bot_id:
                self._held.pop(held.hold_id, None)
                _free(held, True)


def _free(held: Held, goes_on: bool) -> None:
    if not held.freed.done():
        held.freed.set_result(goes_on)
