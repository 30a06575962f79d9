"""Mutants that no schedule can tell from the real code, each with the reason. A check demands that they survive."""

from __future__ import annotations

_SET_WHEN_IT_OPENS = "read only after `_open` or `let_go` has set it"
_DRAWN = "equality with a limit times a drawn fraction does not happen"
_NO_HEARTBEAT = "a child without heartbeats has no deadline that could be moved or passed"
_EMPTY = "does the same with nothing to do"

EQUIVALENT: dict[str, str] = {
    "backoff.py delay: 32 -> 33": "2**32 times any delay is beyond every maximum",
    "breaker.py Breaker.__init__: self._pause = policy.first_pause -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._look_at = 0.0 -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: 0.0 -> 1.0": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._probe_alive = False -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: False -> True": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._batch = 1 -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: 1 -> 2": _SET_WHEN_IT_OPENS,
}
"""By the mutant's name."""
