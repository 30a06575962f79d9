"""The fleet breaker: many bots failing together mean the environment, so restarts are held back until it is well.

Closed: every bot is restarted by itself. Open: nobody is, for a pause that doubles each time. Probing: one bot is let
go; if it stays up, the others follow in growing batches (releasing), and the breaker closes. Pure: time is an argument.

Opening again and again is a reason to doubt: bots that fail while most of the fleet is well, or that have never been
ready, are then on their own. They are neither held nor pardoned any more, so that their intensity judges them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class BreakerPolicy:
    """It opens when within `window` seconds at least `least` bots, and at least `share` of those wanted, have failed.

    Seconds: `first_pause` doubles up to `max_pause`; a probe must stay up for `settle`, and has `patience` to come up;
    batches follow each other at `stagger`; after `calm` without opening again the pause starts at its first value. At
    the `doubt_after`-th opening in a row it is doubted that the environment is at fault.
    """

    window: float = 10.0
    share: float = 1 / 3
    least: int = 3
    first_pause: float = 1.0
    max_pause: float = 30.0
    settle: float = 1.0
    patience: float = 15.0
    stagger: float = 0.25
    calm: float = 60.0
    doubt_after: int = 4


class BreakerState(StrEnum):
    """Where the breaker is."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"
    RELEASING = "releasing"


class Breaker:
    """Told of failures and of signs of life; asked whom to let go."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = BreakerState.CLOSED
        self.reason = ""
        """Why it is not closed; empty when it is."""
        self._policy = policy
        self._failures: dict[int, float] = {}
        self._held: dict[int, bool] = {}
        self._own: dict[int, float | None] = {}
        self._openings = 0
        self._pause = policy.first_pause
        self._look_at = 0.0
        self._opened_at: float | None = None
        self._probe: int | None = None
        self._probe_alive = False
        self._batch = 1

    @property
    def closed(self) -> bool:
        """Whether restarts go on as usual."""
        return self.state is BreakerState.CLOSED

    @property
    def held(self) -> int:
        """How many are held back."""
        return len(self._held)

    @property
    def doubtful(self) -> bool:
        """Whether it has opened so often in a row that the bots themselves may be at fault."""
        return self.state is BreakerState.OPEN and self._openings >= self._policy.doubt_after

    def minds(self, key: int) -> bool:
        """Whether a restart of this bot is the breaker's affair now."""
        return not self.closed and key not in self._own

    def suspects(self) -> tuple[int, ...]:
        """Those that are held back or have failed lately."""
        return tuple(dict.fromkeys((*self._held, *self._failures)))

    def leave_alone(self, keys: Iterable[int]) -> tuple[int, ...]:
        """These are on their own, until one has been ready for `calm`. Gives those that were held back.

        It closes when nobody else has failed lately.
        """
        freed: list[int] = []
        for key in keys:
            self._own[key] = None
            self._failures.pop(key, None)
            if self._held.pop(key, None) is not None:
                freed.append(key)
        if not self._held and not self._failures:
            self._close()
        return tuple(freed)

    def failed(self, key: int, wanted: int, now: float) -> tuple[int, ...]:
        """A bot has failed, of so many that are wanted. Gives those whose failures were no fault of theirs."""
        if key in self._own:
            ready_at = self._own[key]
            if ready_at is None or now - ready_at < self._policy.calm:
                self._own[key] = None
                return ()
            del self._own[key]
        self._failures[key] = now
        self._failures = {one: at for one, at in self._failures.items() if now - at < self._policy.window}
        if self.state is BreakerState.PROBING and key == self._probe:
            self._open(now, wanted)
            return (key,)
        if self.state is BreakerState.OPEN or self.state is BreakerState.PROBING:
            return (key,)
        if len(self._failures) < max(self._policy.least, math.ceil(self._policy.share * wanted)):
            return ()
        guiltless = tuple(self._failures)
        self._open(now, wanted)
        return guiltless

    def hold(self, key: int, *, first: bool = False) -> None:
        """Keep it back until it is let go; those that were well until now are let go `first`."""
        self._held[key] = first

    def drop(self, key: int, now: float) -> None:
        """It is not to be restarted any more, or somebody has started it."""
        self._held.pop(key, None)
        if self.state is BreakerState.PROBING and key == self._probe:
            self.state, self._look_at, self._probe = BreakerState.OPEN, now, None

    def forget(self, key: int, now: float) -> None:
        """It has left the fleet."""
        self.drop(key, now)
        self._own.pop(key, None)
        self._failures.pop(key, None)

    def alive(self, key: int, now: float) -> None:
        """It has shown life."""
        if key in self._own and self._own[key] is None:
            self._own[key] = now
        if self.state is BreakerState.PROBING and key == self._probe and not self._probe_alive:
            self._probe_alive = True
            self._look_at = now + self._policy.settle

    def next_look(self) -> float | None:
        """When `let_go` may have something to say."""
        return None if self.closed else self._look_at

    def let_go(self, now: float) -> tuple[int, ...]:
        """Those whose restart is due now."""
        if self.closed or now < self._look_at:
            return ()
        if self.state is BreakerState.PROBING and self._probe_alive:
            self.state, self._batch, self._failures = BreakerState.RELEASING, 2, {}
        if self.state is BreakerState.RELEASING:
            return self._next_batch(now)
        if not self._held:
            self._close()
            return ()
        # The pause is over, or the last probe neither lives nor dies: another one shall try.
        self._probe = self._in_order()[0]
        del self._held[self._probe]
        self.state, self._probe_alive = BreakerState.PROBING, False
        self._look_at = now + self._policy.patience
        return (self._probe,)

    def _next_batch(self, now: float) -> tuple[int, ...]:
        batch = self._in_order()[: self._batch]
        for key in batch:
            del self._held[key]
        self._batch *= 2
        self._look_at = now + self._policy.stagger
        if not batch:
            self._close()
        return batch

    def _in_order(self) -> tuple[int, ...]:
        return tuple(sorted(self._held, key=lambda key: not self._held[key]))

    def _open(self, now: float, wanted: int) -> None:
        policy = self._policy
        fresh = self._opened_at is None or (self.closed and now - self._opened_at > policy.calm)
        self._openings = 1 if fresh else self._openings + 1
        self._pause = policy.first_pause if fresh else min(policy.max_pause, self._pause * 2)
        if self.state is not BreakerState.PROBING:
            self.reason = (
                f"{len(self._failures)} of {wanted} bots failed within {policy.window:g} s, so restarts are held back"
            )
        self.state, self._probe, self._opened_at = BreakerState.OPEN, None, now
        self._look_at = now + self._pause

    def _close(self) -> None:
        self.state, self.reason, self._probe, self._failures = BreakerState.CLOSED, "", None, {}
