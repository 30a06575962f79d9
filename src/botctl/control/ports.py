"""What `control` knows of the supervisor: its view of the fleet, its records, and the wishes it takes.

Values and one protocol; the composition root translates them to the messages on the pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Passwords:
    """One bot's credentials, on their way to the supervisor; the previous ones where they may still be valid."""

    generation: int
    database: str = field(repr=False)
    redis: str = field(repr=False)
    previous_database: str = field(default="", repr=False)
    previous_redis: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confines:
    """How one bot's process is to be isolated (`messages.Isolation`)."""

    level: str
    home: str
    data: str
    folder: str
    private: tuple[str, ...]
    read: tuple[str, ...]
    write: tuple[str, ...]
    listen: bool
    uid_base: int
    uid_count: int


@dataclass(frozen=True, slots=True)
class WantedBot:
    """One bot as the supervisor shall run it. It is restarted when `digest` changes."""

    name: str
    bot_id: int
    digest: str
    config: bytes = field(repr=False)
    restart: dict[str, Any]
    live: dict[str, Any]
    memory: int
    open_files: int
    file_size: int
    cpu: float
    processes: int
    enabled: bool
    secrets: tuple[str, ...] = field(repr=False)
    passwords: Passwords | None = None
    keys: tuple[tuple[int, str], ...] = field(default=(), repr=False)
    """Ids and, in base64, data keys."""
    isolation: Confines | None = None


@dataclass(frozen=True, slots=True)
class WantedFleet:
    """The whole wanted fleet; `applied` comes back, unread, to the next `control`."""

    generation: int
    bots: tuple[WantedBot, ...]
    applied: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class BotSight:
    """One bot as the supervisor sees it. Times are seconds since the epoch."""

    name: str
    bot_id: int
    state: str
    reason: str = ""
    pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    last_failure: str | None = None
    last_failure_at: float | None = None
    last_exit: str | None = None
    """How the last failure's process ended, e.g. `signal 9`."""
    since: float = 0.0
    started_at: float | None = None
    heartbeat_age: float | None = None
    wanted: bool = True
    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    forkserver: int = 0
    """Generation of the forkserver that its process is of; 0 without a process."""
    code: str = ""
    """Folder of the copy of its handlers' code that its next start takes; empty for what stands on disk."""
    assigned: int = 0
    """Generation of the forkserver that its next start is of; 0 for the one that serves everybody."""
    failures: int = 0
    """How often it has failed, of its own doing, since the supervisor knows it; being recycled is no failure."""
    shut_away: bool = False
    """Whether its quarantine was wished for, by an operator or by threat detection."""
    isolation: str = ""
    """Level of its process: `uid`, `landlock`, `none`; empty without a process."""
    isolation_note: str = ""
    uid: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ForkserverSight:
    """A generation of the forkserver; `state` is `starting`, `ready` or `failed`. `promoted`: it serves everybody."""

    generation: int
    state: str
    promoted: bool = False
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSight:
    """A supervised server, or `control` itself."""

    name: str
    state: str
    reason: str = ""
    pid: int | None = None
    restarts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetSight:
    """The supervisor's whole view."""

    pid: int
    state: str
    started_at: float
    generation: int
    bots: tuple[BotSight, ...] = ()
    services: tuple[ServiceSight, ...] = ()
    forkservers: tuple[ForkserverSight, ...] = ()
    breaker: str = ""
    """Why restarts are held back, by the fleet breaker; empty when they are not."""
    gauges: dict[str, float] = field(default_factory=dict)
    """Of the supervisor itself: `starting`, `waiting_to_start`, `held_back`, `longest_turn_ms`, …"""

    def bot(self, bot_id: int) -> BotSight | None:
        """The bot of this id, if the supervisor has it."""
        return next((bot for bot in self.bots if bot.bot_id == bot_id), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One change of one bot's state, in order of `seq`; `exit` and all below are filled at the end of an incarnation.

    `cause` and `action` are a sentence each: what it ended of, what was done. Spans in seconds.
    """

    seq: int
    at: float
    name: str
    bot_id: int
    incarnation: int
    from_state: str
    to_state: str
    reason: str
    pid: int | None = None
    exit: str | None = None
    failure: str | None = None
    duration: float | None = None
    log_tail: tuple[str, ...] = ()
    cause: str = ""
    action: str = ""
    stacks: str = ""
    memory_mb: float | None = None
    silent_for: float | None = None


class SupervisorPort(Protocol):
    """The supervisor, as `control` speaks to it."""

    def desire(self, fleet: WantedFleet) -> None:
        """Make this the wanted fleet."""
        ...

    def rotate(self, bot_id: int, passwords: Passwords) -> None:
        """Give a running bot new credentials."""
        ...

    def recorded(self, seq: int) -> None:
        """Every transition up to this one is stored."""
        ...

    def hear(self, bot_id: int, deaf: bool, reason: str = "") -> None:
        """A bot takes no updates although Telegram holds some, or takes them again."""
        ...

    async def sight(self) -> FleetSight:
        """The supervisor's view now. Raises TimeoutError when it doesn't answer."""
        ...

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        """Whether the command was accepted, and what there is to say."""
        ...


class GenerationsPort(SupervisorPort, Protocol):
    """The supervisor, as a rollout speaks to it."""

    def assign(self, bots: Iterable[int], generation: int, code: Mapping[int, str]) -> None:
        """From now on these bots start from this generation (0: everybody's) and with this copy of their code, if any.

        Restarts nobody; what was assigned before is over.
        """
        ...

    async def generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        """Renew, promote or retire: whether it was done, what there is to say, and the generation's number."""
        ...


class WholeSupervisor(GenerationsPort, Protocol):
    """The supervisor, as the assembly of `control` is given it."""

    def wake(self, bot_id: int) -> None:
        """Have a running bot look into its inbox. For `control.waking`, which does so in measure."""
        ...
