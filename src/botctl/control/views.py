"""What `control` tells an operator: the bodies of the API's answers, which the command line reads too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class View(BaseModel):
    """Base of all bodies; a newer daemon's extra keys don't trouble an older command line."""

    model_config = ConfigDict(extra="ignore")


class DaemonView(View):
    """The daemon. `pid` is the supervisor's; `problems` is empty when all is well.

    `breaker` says why restarts are held back, `rollout` what a rolling restart under way does; empty otherwise.
    """

    pid: int
    state: str
    version: str
    uptime_s: float
    control_pid: int | None = None
    generation: int = 0
    problems: list[str] = Field(default_factory=list)
    breaker: str = ""
    rollout: str = ""


class BotView(View):
    """One bot. `memory_mb` is its PSS, `own_mb` what it has made since its fork, which is what its limits judge; depths
    are rows that wait. Null means that the bot has not said yet.
    """

    name: str
    bot_id: int
    state: str
    reason: str = ""
    pid: int | None = None
    restarts: int = 0
    last_failure: str | None = None
    last_failure_at: float | None = None
    last_exit: str | None = None
    memory_mb: float | None = None
    own_mb: float | None = None
    inbox_depth: int | None = None
    outbox_depth: int | None = None
    incarnation: int = 0
    uptime_s: float | None = None
    since_s: float | None = None
    heartbeat_age_s: float | None = None
    last_poll_age_s: float | None = None
    enabled: bool = True
    wanted: bool = True
    code: str = ""
    """Name of the copy of its handlers' code that it was rolled back to; empty for what stands on disk."""
    shut_away: bool = False
    """Whether it was quarantined on purpose, by an operator or by threat detection."""
    held_back: bool = False
    """Whether the fleet breaker holds its restart back."""
    token: str = "file"
    """`rotated` when it runs with a token that was given at runtime, in the place of the file's."""
    isolation: str | None = None
    """How its process is kept from others: `uid`, `landlock` or `none`; null without a process."""
    isolation_note: str = ""
    """What of isolation could not be had, and why."""
    uid: int | None = None
    """Its own uid; null without one."""
    threat_score: float = 0.0
    """Points of threat detection now, rules in shadow included; `threats` of the fleet file says what they lead to."""
    ignored_users: int = 0
    """Users whose updates it sets aside because they flood."""
    dead_letters: int = 0
    """What was given up after all attempts, and nobody has retried or dropped; as counted some seconds ago."""
    kept_off_redis: str = ""
    """Why botctl keeps it off Redis now; empty when it doesn't."""
    kept_off_redis_s: float | None = None
    """For how many seconds more."""
    counters: dict[str, float] = Field(default_factory=dict)


class ServiceView(View):
    """A server that the daemon runs, or `control` itself. `reason` says why it is in its state, if anybody does."""

    name: str
    state: str
    reason: str = ""
    pid: int | None = None
    restarts: int = 0


class ReaderView(View):
    """One reader of a log, or of its mailbox. `reader` is `bot:NAME`, `group:NAME` or `grant:NAME`.

    `log` is empty for a mailbox. `unread` events were not handed out, `pending` ones not acknowledged; `seconds` is the
    age of the oldest of both. `dropped`: how many it has lost since `control` began. Null: Redis has not said.
    """

    reader: str
    log: str = ""
    unread: int | None = None
    pending: int | None = None
    seconds: float | None = None
    dropped: int = 0


class BusView(View):
    """The bus, as last looked at `age_s` seconds ago; null when it could not be looked at yet.

    The logs keep events for `keep_s`; `logs` are entries by log. `readers`: all of them in `events lag`, in `status`
    those with something to read and every grant. `warnings` say of whom events may be lost.
    """

    age_s: float | None = None
    keep_s: float
    logs: dict[str, int] = Field(default_factory=dict)
    dead_letters: int | None = None
    readers: list[ReaderView] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


class StatusBody(View):
    """Answer of `GET /v1/status` and of `botctl status --json`."""

    daemon: DaemonView
    bots: list[BotView]
    services: list[ServiceView] = Field(default_factory=list)
    bus: BusView | None = None


class AppliedBody(View):
    """What applying a fleet did, or would do. `failed` maps bots whose credentials could not be made to the reason."""

    dry_run: bool = False
    added: list[str]
    removed: list[str]
    changed: list[str]
    unchanged: list[str]
    groups: list[str] = Field(default_factory=list)
    failed: dict[str, str] = Field(default_factory=dict)


class CommandBody(View):
    """Answer to a command that was accepted; it may still be under way."""

    accepted: bool = True
    message: str = ""


class RolloutLine(View):
    """A line of `GET /v1/rollout`: what a rolling restart does, in words, as it goes on.

    The last line has an `outcome`: `done`, `rolled back` (all is as before, also where nothing was restarted yet) or
    `failed`.
    """

    at: float
    text: str
    warning: bool = False
    outcome: str | None = None


class RolloutBody(View):
    """Answer of `POST /v1/rollout`: how many bots, in how many waves."""

    bots: int
    waves: int


class RunBody(View):
    """One incarnation of a bot."""

    bot_id: int
    name: str
    incarnation: int
    pid: int | None
    started_at: float
    ready_at: float | None
    ended_at: float | None
    failure: str | None
    exit: str | None
    detail: str | None


class RunsBody(View):
    """Answer of `GET /v1/runs`, newest first."""

    runs: list[RunBody]


class DeathBody(View):
    """The end of one incarnation. Times in seconds since the epoch, spans in seconds; null where nobody knows.

    `cause` is what it ended of, `action` what was done about it, a sentence each. Without `failure` it was asked to
    end, unless `exit` is `unknown`: then the daemon itself was killed.
    """

    name: str
    bot_id: int
    incarnation: int
    started_at: float | None
    ended_at: float
    duration_s: float | None
    failure: str | None
    exit: str | None
    cause: str
    action: str
    memory_mb: float | None
    silent_for_s: float | None
    log_tail: list[str]
    stacks: str
    source: Literal["database", "file"]


class DeathsBody(View):
    """Answer of `GET /v1/bots/NAME/deaths`, newest first.

    `bot` is how it is now: null when the fleet has it no more, or nobody can tell. `last_end` is its latest end, also
    one that was asked for; `failures_24h` counts by class. The history begins at `since`. `notes` say what is missing.
    """

    name: str
    bot: BotView | None = None
    deaths: list[DeathBody] = Field(default_factory=list)
    last_end: DeathBody | None = None
    failures_24h: dict[str, int] = Field(default_factory=dict)
    since: float | None = None
    notes: list[str] = Field(default_factory=list)


class LoginBody(View):
    """A short-lived, read-only database login with one bot's eyes."""

    url: str
    valid_until: float


class BotSecretsView(View):
    """One bot's keys: the number of the one that seals, since when, and how many there are. Times since the epoch.

    `token` is `file`, or `rotated` when it was given at runtime (`token_since`).
    """

    name: str
    bot_id: int
    key: int | None
    key_since: float | None
    keys: int
    master_versions: list[int]
    encrypts_messages: bool
    token: str = "file"
    token_since: float | None = None


class SecretsBody(View):
    """Answer of `GET /v1/secrets`: where the master key is kept (`source`, in words `place`), which version wraps,
    which are held, and how many data keys are still wrapped by another."""

    source: str
    place: str
    version: int | None
    held: list[int]
    data_keys: int
    to_rewrap: int
    bots: list[BotSecretsView]


class MasterBody(View):
    """Answer of `POST /v1/secrets/rotate-master`. `todo` is what the operator has to do, in words.

    `entry` is a new key, when the operator has to put it where the master key is kept.
    """

    version: int
    rewrapped: int
    todo: str = ""
    entry: str = ""


class HealthBody(View):
    """Answer of `GET /healthz`: 200 when `ok`, else 503."""

    ok: bool
    problems: list[str] = Field(default_factory=list)


class EventBody(View):
    """One entry of a log: a line of `GET /v1/events`."""

    entry: str
    log: str
    id: str
    type: str
    version: int
    source: str
    occurred_at: float
    correlation_id: str = ""
    causation_id: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class AuditEntryView(View):
    """An entry of the audit log. `bot` is the name of a bot of the fleet; bot_id 0 is the fleet itself."""

    id: int
    at: float
    bot_id: int
    bot: str | None = None
    actor: str
    action: str
    entity: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class AuditBody(View):
    """Answer of `GET /v1/audit`, newest first."""

    entries: list[AuditEntryView]


class AuditSealLine(View):
    """A line of `GET /v1/audit/verify`: a seal as the database has it."""

    seal: int
    digest: str


class FindingView(View):
    """One thing that is wrong with the audit log: `changed`, `removed`, `inserted`, `truncated`, `chain` or `head`."""

    fault: str
    text: str
    seal: int | None = None
    audit_id: int | None = None


class AuditReportBody(View):
    """Last line of `GET /v1/audit/verify`. Entries before `cutoff` were forgotten by retention."""

    seals: int
    entries: int
    unsealed: int
    first_seal: int
    last_seal: int
    cutoff: float | None = None
    unnamed: int = 0
    findings: list[FindingView]
