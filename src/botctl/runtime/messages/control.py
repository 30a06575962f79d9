"""What `control` and the supervisor say to each other: the wanted fleet, commands, records of lives."""

from __future__ import annotations

from typing import Any

import msgspec

from botctl.runtime.messages.base import Credentials, Key, Message
from botctl.runtime.messages.child import Isolation


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and counts of `restart:` in the fleet file, plus the heartbeat's."""

    intensity: int = 5
    period: float = 60.0
    first_delay: float = 0.1
    max_delay: float = 30.0
    stop_timeout: float = 10.0
    ready_timeout: float = 60.0
    heartbeat_timeout: float = 10.0
    memory_soft: int = 0
    """Bytes of its own making (`own_mb`) beyond which the bot drains and is started anew; 0 for no limit."""
    max_age: float = 0.0
    """Seconds after which a bot that is well is recycled, give or take a tenth; 0 for never."""
    max_updates: int = 0
    """Updates after which a bot that is well is recycled, give or take a tenth; 0 for never."""


class BotChild(msgspec.Struct, frozen=True, kw_only=True):
    """One wanted bot. It is restarted when `digest` changes; `live` settings are sent without a restart."""

    name: str
    bot_id: int
    digest: str
    config: msgspec.Raw
    policy: RestartPolicy = RestartPolicy()
    live: dict[str, Any] = {}
    memory: int = 0
    open_files: int = 0
    file_size: int = 0
    """Bytes that one file of it may grow to; 0 for no limit."""
    cpu: float = 0.0
    """Cores it may use, 0.5 is half of one; 0 for no limit. Needs control groups."""
    processes: int = 0
    """Processes and threads it may have; 0 for no limit. Needs control groups."""
    enabled: bool = True
    credentials: Credentials | None = None
    secrets: list[str] = []
    """What must never stand in a log: its token, its completion key, its data keys."""
    keys: list[Key] = []
    """Its data keys; empty for those the supervisor has."""
    isolation: Isolation | None = None


class Desired(Message, frozen=True):
    """The whole wanted fleet. Bots not in it are stopped and forgotten.

    A bot whose `credentials` are None keeps those the supervisor has. `applied` is `control`'s own note of what it
    applied; the supervisor gives it back, unread, in the `Configure` of the next `control`.
    """

    generation: int
    bots: list[BotChild]
    applied: msgspec.Raw = msgspec.Raw(b"null")


class Command(Message, frozen=True):
    """An operator's wish for one bot (`name`), for all bots (`name` empty), or for the daemon (`shutdown`)."""

    id: int
    verb: str  # start | stop | restart | release | quarantine | shutdown
    name: str = ""
    reason: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a bot is made of when it starts the next time."""

    generation: int = 0
    """Of the forkserver; 0 for the one that serves everybody."""
    code: str = ""
    """Folder of a copy of the handlers' code; empty for what stands beside the fleet file."""


class Assign(Message, frozen=True):
    """From now on these bots, by bot_id, start from these sources; nobody is restarted by it.

    It holds for restarts after crashes too, until the next `Assign`, a promotion, or a changed configuration.
    """

    sources: dict[int, Source]


class Generation(Message, frozen=True):
    """Renew, promote or retire a generation of the forkserver. Answered by a `CommandResult` with its number.

    A renewed one is ready when the `Snapshot` says so.
    """

    id: int
    verb: str  # renew | promote | retire
    number: int = 0


class Hearing(Message, frozen=True):
    """From `control`: a bot takes no updates although Telegram holds some (`deaf`), or takes them again."""

    bot_id: int
    deaf: bool
    reason: str = ""


class CommandResult(Message, frozen=True):
    """The command has been accepted and will be performed, or says why not."""

    id: int
    ok: bool
    message: str = ""
    generation: int = 0
    """Of the forkserver, in the answer to `Generation`."""


class GetSnapshot(Message, frozen=True):
    """Ask for a `Snapshot`."""

    id: int


class BotStatus(msgspec.Struct, frozen=True, kw_only=True):
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
    """How the process of its last failure ended, e.g. `signal 9`."""
    since: float = 0.0
    started_at: float | None = None
    heartbeat_age: float | None = None
    wanted: bool = True
    credentials_generation: int = 0
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}
    forkserver: int = 0
    """Generation that its process was forked from; 0 without a process."""
    code: str = ""
    """Folder of the copy of its handlers' code that its next start takes; empty for what stands on disk."""
    assigned: int = 0
    """Generation of the forkserver that its next start is of (`Assign`); 0 for the one that serves everybody."""
    failures: int = 0
    """How often it has failed, of its own doing, since the supervisor knows it; being recycled is no failure."""
    shut_away: bool = False
    """Whether its quarantine was wished for, by an operator or by threat detection."""
    isolation: str = ""
    """Level of its process: `uid`, `landlock`, `none`; empty without a process, or before it is known."""
    isolation_note: str = ""
    uid: int = 0
    """Its own uid; 0 without one."""


class ForkserverStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of the forkserver. `promoted`: it serves everybody. `error` is of the last failure."""

    generation: int
    state: str  # starting | ready | failed
    pid: int | None = None
    promoted: bool = False
    error: str = ""


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A supervised server or `control` itself."""

    name: str
    state: str
    reason: str = ""
    pid: int | None = None
    restarts: int = 0


class Snapshot(Message, frozen=True):
    """The supervisor's whole view, `id` of the request or 0 when pushed after a change."""

    id: int
    pid: int
    state: str
    started_at: float
    generation: int
    bots: list[BotStatus]
    services: list[ServiceStatus] = []
    forkservers: list[ForkserverStatus] = []
    breaker: str = ""
    """Why restarts are held back; empty while the fleet breaker is closed."""
    gauges: dict[str, float] = {}
    """Of the supervisor itself: `starting`, `waiting_to_start`, `held_back`, `longest_turn_ms`, `open_files`, …"""


class Lifecycle(Message, frozen=True):
    """One transition of one bot, in order of `seq`; repeated to a new `control` until acknowledged by `Recorded`.

    `at` is seconds since the epoch. On the end of an incarnation `exit` (e.g. `signal 9`, `exit 1`), `failure`,
    `duration` and `log_tail` are filled.
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
    log_tail: list[str] = []
    cause: str = ""
    """At the end of an incarnation, what it ended of, in one sentence; `reason` may tell what follows instead."""
    action: str = ""
    """At the end of an incarnation, what was done about it: `restarted in 0.08 s`, `quarantined`, …"""
    stacks: str = ""
    """Stacks of all threads and asyncio tasks, when they were asked for or the process broke; at most 64 KiB."""
    memory_mb: float | None = None
    """Its PSS as last reported."""
    silent_for: float | None = None
    """Seconds from its last heartbeat to its end."""


class Recorded(Message, frozen=True):
    """`control` has stored all lifecycle records up to and including `seq`."""

    seq: int


class Reload(Message, frozen=True):
    """SIGHUP reached the daemon: read the fleet file again and apply it."""
