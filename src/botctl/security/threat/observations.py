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
    FORGOTTEN = "forgotten"
    """Nobody knows: there was more than the server's log holds, and it was pushed out. Of bot 0: nor by whom."""
    CANARY = "canary"
    """A row that is nobody's: whoever meets it has got round row level security."""


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
class DeniedSql:
    """`count` statements that PostgreSQL has refused with the same words (42501)."""

    at: float
    bot_id: int
    message: str
    target: Target
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedLogins:
    """`count` logins as the bot `tried` that failed. Nobody knows who it was: `bot_id` is the fleet's, 0."""

    at: float
    tried: int
    address: str
    count: int
    bot_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A session with the bot's login that has begun. An empty address is the server's own machine.

    `home` is the address that `control` comes from, beside whom the bots run. `without_process` is for how many seconds
    the bot had no process when it was seen, None while it has one; `age` how old the session was, both at least.
    """

    at: float
    bot_id: int
    address: str
    home: str
    age: float
    without_process: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StolenLogin:
    """A process of the bot, by the kernel's account of its uid, is logged in as the bot `used`."""

    at: float
    bot_id: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionHog:
    """`count` connections to the database's port in two looks on end, logged in or not; it may have `most`.

    `bot_id` 0: bots without uids of their own, together.
    """

    at: float
    bot_id: int
    count: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryMet:
    """`count` outgoing messages with a word that stands in canaries only; they were not sent."""

    at: float
    bot_id: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReadable:
    """A login with a bot's rights sees what is not its own, or a rule of isolation is broken: it concerns all bots."""

    at: float
    what: str
    bot_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserVolume:
    """`count` updates of one user within `span` seconds; `others` is what all others of this bot sent meanwhile."""

    at: float
    bot_id: int
    user_id: int
    count: float
    others: float
    span: float


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
    """Tokens of completions, in and out: what costs money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """`count` of one flow within the `span` seconds that end at `at`."""

    at: float
    bot_id: int
    flow: Flow
    count: float
    span: float


Observation = (
    DeniedRedis
    | DeniedSql
    | FailedLogins
    | LoggedIn
    | StolenLogin
    | ConnectionHog
    | LoginMended
    | CanaryMet
    | CanaryReadable
    | SecretsHeldBack
    | BadEvents
    | Volume
    | UserVolume
)
