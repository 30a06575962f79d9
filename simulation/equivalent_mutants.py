"""Mutants that no schedule can tell from the real code, each with the reason. A check demands that they survive."""

from __future__ import annotations

_SET_WHEN_IT_OPENS = "read only after `_open` or `let_go` has set it"
_DRAWN = "equality with a limit times a drawn fraction does not happen"
_NO_HEARTBEAT = "stands for `None`, and without a heartbeat timeout there is no deadline to move or to pass"
_ALWAYS_GIVEN = "a default of a value that `FleetMachine`, or whoever feeds it, always gives"
_LESS_THAN_ONE = "one MB, or one update, is below every limit"

EQUIVALENT: dict[str, str] = {
    "backoff.py delay: 32 -> 33": "2**32 times any delay is beyond every maximum",
    "breaker.py Breaker.__init__: self._openings = 0 -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: 0 -> 1": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.hold: False -> True": _ALWAYS_GIVEN,
    "breaker.py Breaker.__init__: self._pause = policy.first_pause -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._look_at = 0.0 -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: 0.0 -> 1.0": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._probe_alive = False -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: False -> True": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: self._batch = 1 -> pass": _SET_WHEN_IT_OPENS,
    "breaker.py Breaker.__init__: 1 -> 2": _SET_WHEN_IT_OPENS,
    "cells/ending.py _after_failure: 0.0 -> 1.0": "how long it was ready counts only for one that was ready",
    "cells/living.py hung: 0.0 -> 1.0": _NO_HEARTBEAT,
    "cells/living.py give_time_to_beat: 0.0 -> 1.0": _NO_HEARTBEAT,
    "cells/living.py _recycle: now - record.started_at >= policy.max_age * spread -> "
    "now - record.started_at > policy.max_age * spread": _DRAWN,
    "cells/living.py _recycle: event.updates >= policy.max_updates * spread -> "
    "event.updates > policy.max_updates * spread": _DRAWN,
    "cells/resting.py begin: _start(record, now) if record.wanted else Step(record) -> "
    "_start(record, now) if True else Step(record)": "nobody unwanted waits for a turn; the cell is total all the same",
    "events.py Beat: 0.0 -> 1.0": _LESS_THAN_ONE,
    "events.py Beat: 0.0 -> 1.0 (2)": _LESS_THAN_ONE,
    "fleet_machine.py module: 1.0 -> 2.0": "a setting of the loop that feeds it",
    "fleet_machine.py FleetMachine.add: True -> False": _ALWAYS_GIVEN,
    "fleet_machine.py FleetMachine.next_look: look < first -> look <= first": "the smaller of two equals",
    "fleet_machine.py FleetMachine._apply: if asks -> if True": "takes out of the actions what is not among them",
    "fleet_machine.py FleetMachine._forget: self._leaving.discard(key) -> pass": (
        "`desire` takes it out when the bot comes back; a child that is dismissed never does"
    ),
    "fleet_machine.py FleetMachine._schedule: deadline < self._scheduled.get(key, _NEVER) -> "
    "deadline <= self._scheduled.get(key, _NEVER)": "a second entry for the same moment, which is passed over",
    "fleet_machine.py _merged: if len(changes) < 2 -> if False": "spares work: a single change merges with nothing",
    "model.py Record: 0 -> 1": _ALWAYS_GIVEN,
    "reconcile.py Wanted: True -> False": _ALWAYS_GIVEN,
}
"""By the mutant's name."""
