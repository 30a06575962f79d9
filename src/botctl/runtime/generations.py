"""The supervisor's book of forkserver generations: which there are, how they are, and which serves everybody.

A rollout renews, starts some bots from the new generation, and then promotes it or retires it (`control` decides).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from botctl.runtime import messages
from botctl.runtime.children import Child
from botctl.runtime.launcher import FIRST_GENERATION, ForkserverDown, ForkserverEnded, ForkserverUp, Launcher

Log = Callable[..., None]


class Generations:
    """`promoted` is the generation that serves everybody. At most one other is beside it."""

    def __init__(self, launcher: Launcher, log: Log) -> None:
        self.promoted = FIRST_GENERATION
        self._launcher = launcher
        self._log = log
        self._book: dict[int, messages.ForkserverStatus] = {}
        self._note(FIRST_GENERATION, state="starting")

    def statuses(self) -> list[messages.ForkserverStatus]:
        """All of them, the oldest first."""
        return list(self._book.values())

    def take(self, result: ForkserverUp | ForkserverDown | ForkserverEnded) -> None:
        """What the launcher tells of one."""
        if result.generation not in self._book:
            return  # retired meanwhile
        match result:
            case ForkserverUp(pid, generation):
                self._note(generation, state="ready", pid=pid)
                self._log("info", "forkserver ready", pid=pid, generation=generation)
            case ForkserverDown(error, generation):
                self._note(generation, state="failed", pid=None, error=error)
                self._log("error", "forkserver failed", error=error, generation=generation)
            case ForkserverEnded(pid, generation, reason):
                self._note(generation, state="starting", pid=None, error=reason)
                self._log("error", "forkserver ended", pid=pid, generation=generation, reason=reason)

    def command(self, verb: str, number: int, bots: Iterable[Child]) -> tuple[bool, str, int]:
        """Renew, promote or retire: whether it was done, what there is to say, and which generation it is about."""
        match verb:
            case "renew":
                if others := [one for one in self._book if one != self.promoted]:
                    return False, f"generation {others[0]} of the forkserver is there already", others[0]
                number = self._launcher.renew()
                self._note(number, state="starting")
            case "promote" if number == self.promoted:
                pass
            case "promote" if number in self._book and self._book[number].state != "failed":
                before, self.promoted = self.promoted, number
                self._launcher.promote(number)
                for one in self._book:
                    self._note(one)
                for bot in bots:
                    bot.source = messages.Source()
                self._log("info", "forkserver promoted", generation=number, instead_of=before)
            case "retire" if number == self.promoted:
                return False, f"generation {number} of the forkserver serves everybody", number
            case "retire":
                self._launcher.retire(number)
                for bot in bots:
                    if bot.source.generation == number:
                        bot.source = msgspec.structs.replace(bot.source, generation=0)
                if self._book.pop(number, None) is not None:
                    self._log("info", "forkserver retired", generation=number)
            case _:
                return False, f"there is no generation {number} of the forkserver to {verb}", number
        return True, "", number

    def _note(self, generation: int, **changes: object) -> None:
        before = self._book.get(generation) or messages.ForkserverStatus(generation=generation, state="starting")
        promoted = generation == self.promoted
        self._book[generation] = msgspec.structs.replace(before, promoted=promoted, **changes)
