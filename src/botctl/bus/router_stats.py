"""What the router counts, for status and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RouterStats:
    """What the router has done since the process began.

    `vanished`: entries that their bot has cut off its out stream before they were routed, as far as can be counted.
    `paused_bots`: how often one was kept off Redis for a while.
    """

    healthy: bool = True
    reason: str = ""
    routed: int = 0
    delivered: int = 0
    rejected: int = 0
    duplicates: int = 0
    dropped: int = 0
    replaced_streams: int = 0
    vanished: int = 0
    paused_bots: int = 0
    doorbell: bool = False
