"""What the supervisor says to any child, and any child to the supervisor."""

from __future__ import annotations

from typing import Any

import msgspec

from botctl.runtime.messages.base import Count, Credentials, Key, Message
from botctl.supervision.model import Failure, Health


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How a bot's process is to be kept from others, and what it may use all the same (`runtime.confinement`)."""

    level: str = "auto"  # auto | uid | landlock | none
    home: str = ""
    """The bot's own folder; empty for none."""
    data: str = ""
    """The data folder, closed to bots but for their own."""
    folder: str = ""
    """Where its handlers are, readable but for what is private."""
    private: list[str] = []
    """Files that no bot may read, wherever they stand."""
    read: list[str] = []
    write: list[str] = []
    """What the fleet file allows besides."""
    listen: bool = False
    """Whether it may listen on sockets."""
    uid_base: int = 0
    uid_count: int = 0
    """The range of the bots' own uids."""


class Configure(Message, frozen=True):
    """First frame of an incarnation: all the child may know. `config` is JSON for the child's own entry."""

    name: str
    incarnation: int
    config: msgspec.Raw
    credentials: Credentials | None = None
    keys: list[Key] = []
    """The bot's own data keys."""
    previous_failure: str = ""
    """A `Failure` value: how the incarnation before this one failed; empty when it did not, or nobody knows."""
    code: str = ""
    """Folder of the copy of the handlers' code to run (`Source`); empty for what stands beside the fleet file."""
    isolation: Isolation | None = None
    """None for a child that is one of ours."""


class Stop(Message, frozen=True):
    """Drain and exit with 0 within `timeout` seconds; afterwards the supervisor sends TERM, then KILL."""

    timeout: float


class Rotate(Message, frozen=True):
    """New credentials for a running bot; the previous ones stay valid until it has answered `Rotated`.

    From `control`, `bot_id` names the bot; on its way to the bot it is 0.
    """

    credentials: Credentials
    bot_id: int = 0


class Rekey(Message, frozen=True):
    """The bot's data keys, all of them, after there has come a new one."""

    keys: list[Key]


class Adjust(Message, frozen=True):
    """Settings that a bot adopts without a restart: `log_level`, `concurrent_chats`, `attempts`,
    `ignored` (users who flood, and until when), `canary` (`BotConfig.canary`)."""

    settings: dict[str, Any]


class Wake(Message, frozen=True):
    """Somebody else has put rows into the bot's inbox. One that is lost is no harm: a bot looks by itself, too.

    From `control`, `bot_id` names the bot; on its way to the bot it is 0.
    """

    bot_id: int = 0


class Ready(Message, frozen=True):
    """The child does its job: for a bot, its first getUpdates has succeeded; for `control`, its API is served."""


class Heartbeat(Message, frozen=True):
    """Sent from the child's own event loop about once a second.

    `gauges` and `counters` are numbers for status and metrics: `inbox_depth`, `outbox_depth`, `pss_mb`,
    `own_mb`, `last_poll_age_s`, … Counters only grow within an incarnation. Supervision looks at the gauge `own_mb`,
    what of its memory is of its own making, and the counter `updates`, to recycle the bot (`RestartPolicy`).
    """

    health: Health = Health.OK
    reason: str = ""
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}


class Isolated(Message, frozen=True):
    """A bot's first word, before any code of its own runs: how far it is isolated. Later ones count for nothing."""

    level: str  # uid | landlock | none
    note: str = ""
    """What could not be had, and why; empty when there is nothing to say."""
    uid: int = 0
    """Its own uid; 0 without one."""


class Failing(Message, frozen=True):
    """The child's last words: it will exit because of this. `failure` is a `Failure` value."""

    failure: Failure
    detail: str


class Rotated(Message, frozen=True):
    """The child uses the credentials of this generation."""

    generation: Count


class GaveUp(Message, frozen=True):
    """So many updates have ended the process again and again and have become dead letters.

    What they did is not the bot's failure any more: those counted so far are pardoned, within bounds (`reports`).
    """

    updates: Count


class SetupDone(Message, frozen=True):
    """Last word of the set-up child: the JSON of `handover.SetupResult`."""

    result: msgspec.Raw
