"""What threat detection is told: one value for each thing seen. Pure.

`at` is seconds since the epoch. Who did it, `bot_id`, must come from the server or the kernel, never from what the bot
says of itself: whoever could name another here could have it shut away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    """What a refused command reached for."""

    FOREIGN = "foreign"
    """Something of another bot, or of the fleet."""
    OWN = "own"
    """Something of its own, in a way it may not."""
    POWER = "power"
    """No data, but rights: a command that no bot may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedRedis:
    """`count` commands of one kind that Redis has refused by its access list."""

    at: float
    bot_id: int
    command: str
    target: Target
    key: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginMended:
    """The bot had changed password or settings of its own login; they were put back."""

    at: float
    bot_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsHeldBack:
    """`count` outgoing messages that carried a secret and were not sent."""

    at: float
    bot_id: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BadEvents:
    """`count` events that the router has refused, the last one for this reason."""

    at: float
    bot_id: int
    count: int
    reason: str = ""


class Flow(StrEnum):
    """What is counted over time."""

    MESSAGES = "messages"
    """Messages sent."""
    SPEND = "spend"
    """Completions asked for: what costs money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """`count` of one flow within the `span` seconds that end at `at`."""

    at: float
    bot_id: int
    flow: Flow
    count: float
    span: float


Observation = DeniedRedis | LoginMended | SecretsHeldBack | BadEvents | Volume
