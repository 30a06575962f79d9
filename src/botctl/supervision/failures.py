"""How each class of failure is treated: one row a class. Pure values, from the failure classes of the design (§6)."""

from __future__ import annotations

from dataclasses import dataclass

from botctl.supervision.model import Failure


@dataclass(frozen=True)
class Treatment:
    """What follows a failure.

    `hopeless`: a restart can't mend it, so quarantine at once. `counted`: it is the bot's own doing and counts towards
    its intensity. `environmental`: many of them together mean that the machine or the network is at fault, so that
    they open the fleet breaker.
    """

    meaning: str
    hopeless: bool = False
    counted: bool = True
    environmental: bool = False


TREATMENT: dict[Failure, Treatment] = {
    Failure.CRASH: Treatment("it ended with an error, or by a signal of its own making", environmental=True),
    Failure.EXIT: Treatment("it ended with exit code 0 though nobody asked it to", environmental=True),
    Failure.HANG: Treatment("its event loop was silent for longer than `heartbeat_timeout`", environmental=True),
    Failure.NOT_READY: Treatment("it did not get ready within `ready_timeout`", environmental=True),
    Failure.MEMORY: Treatment("it held more memory than its soft limit, or could get no more"),
    Failure.OOM: Treatment("the kernel killed it because memory had run out", environmental=True),
    Failure.BAD_TOKEN: Treatment("Telegram refuses its token (401)", hopeless=True),
    Failure.CODE: Treatment("its handlers can't be imported or registered", hopeless=True),
    Failure.CONFLICT: Treatment("somebody else polls the same bot (409)", counted=False),
    Failure.SIGNAL: Treatment("somebody outside killed it", counted=False),
    Failure.SPAWN: Treatment("the machine could not make its process", counted=False, environmental=True),
    Failure.PROTOCOL: Treatment("it broke the protocol of its pipe"),
    Failure.DEAF: Treatment("it took no updates although Telegram held some"),
}
"""Completion API down, 429 and Redis down are no failures: the bot says that it is degraded. Database down: paused."""
