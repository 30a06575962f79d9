"""When a fleet as a whole has failed: for daemons that shall end with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from botctl.supervision.model import Record, State


def lost_fleet(bots: Mapping[str, Record]) -> dict[str, str]:
    """The bots and why they failed, if nothing is left of the fleet; empty while there is hope.

    It is lost when at least one bot is wanted and all that are wanted are quarantined. What an operator stopped or shut
    away doesn't count: that is no failure, and says nothing about the others. A bot in its backoff will try again.
    """
    wanted = {name: record for name, record in bots.items() if record.wanted and not record.shut_away}
    if not all(record.state is State.QUARANTINED for record in wanted.values()):
        return {}
    return {name: record.reason for name, record in wanted.items()}
