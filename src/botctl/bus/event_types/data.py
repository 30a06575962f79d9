"""The data of each event type of the catalogue.

Pure structs; a key that isn't here is refused. Fields with a default are optional, so that adding one is no new
version. `text` is filled only where the bot's `share:` names the event type.
"""

from __future__ import annotations

import msgspec


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all data models."""


class BotStarted(Data, frozen=True):
    """`incarnation` counts the processes of this bot since the daemon started."""

    bot_id: int
    name: str
    incarnation: int
    pid: int | None = None
    reason: str = ""


class BotReady(Data, frozen=True):
    """`after_s`: seconds from the start of the process to its first successful getUpdates."""

    bot_id: int
    name: str
    incarnation: int
    after_s: float | None = None


class BotHealth(Data, frozen=True):
    """`reason`: what is missing, e.g. `completion api`, `redis`, `database`."""

    bot_id: int
    name: str
    incarnation: int
    reason: str = ""


class BotFailed(Data, frozen=True):
    """`failure`: the failure class; `exit`: e.g. `signal 9` or `exit 1`; `detail`: one line for the operator.

    `cause`: what it ended of, in one sentence; `action`: what was done about it.
    """

    bot_id: int
    name: str
    incarnation: int
    failure: str
    exit: str | None = None
    detail: str = ""
    duration_s: float | None = None
    cause: str = ""
    action: str = ""


class BotParked(Data, frozen=True):
    """`parked_s`: seconds for which updates may have been waiting at Telegram, which drops them after 86,400;
    `threshold_s`: the threshold that was passed. `pending`: how many wait there, null when it can't be asked.

    `state` and `reason`: what the supervisor says of the bot.
    """

    bot_id: int
    name: str
    state: str
    parked_s: float
    threshold_s: float
    reason: str = ""
    pending: int | None = None


class BotStopped(Data, frozen=True):
    """`reason`: who or what asked for it."""

    bot_id: int
    name: str
    incarnation: int
    reason: str = ""


class BotQuarantined(Data, frozen=True):
    """`failure`: class of the last failure; `reason`: why restarting was given up."""

    bot_id: int
    name: str
    incarnation: int
    reason: str
    failure: str | None = None


class MessageReceived(Data, frozen=True):
    """`length`: characters of the text; `kind`: kind of the update, e.g. `message`, `callback_query`."""

    chat_id: int
    thread_id: int = 0
    user_id: int | None = None
    telegram_message_id: int | None = None
    conversation_id: int | None = None
    kind: str = "message"
    length: int = 0
    text: str | None = None


class MessageSent(Data, frozen=True):
    """`role`: `assistant`, `handler` or `system`; `part`: which part of a split answer, from 0."""

    chat_id: int
    thread_id: int = 0
    telegram_message_id: int | None = None
    conversation_id: int | None = None
    role: str = "handler"
    part: int = 0
    length: int = 0
    model: str | None = None
    text: str | None = None


class Conversation(Data, frozen=True):
    """One conversation of one chat (and thread of a forum)."""

    chat_id: int
    thread_id: int = 0
    conversation_id: int | None = None
    user_id: int | None = None


class ChatUnreachable(Data, frozen=True):
    """`reason`: `blocked`, `deactivated`, `kicked`, `not_started` or `gone`. A new message ends it."""

    chat_id: int
    reason: str


class AssistantFailed(Data, frozen=True):
    """`error`: class of the failure, e.g. `timeout`, `rate limit`; `status`: HTTP status if there was an answer."""

    chat_id: int
    error: str
    thread_id: int = 0
    status: int | None = None
    detail: str = ""


class HandlerFailed(Data, frozen=True):
    """`error`: the exception's class; `attempts`: how often it was tried; `dead`: it won't be tried again."""

    error: str
    chat_id: int | None = None
    handler: str = ""
    detail: str = ""
    attempts: int = 1
    dead: bool = False


class UserShared(Data, frozen=True):
    """`bots`: ids of the bots this user has talked to."""

    user_id: int
    bots: list[int]


class ConfigUpdated(Data, frozen=True):
    """Names of bots. `actor`: who applied it."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    actor: str = ""


class BusDropped(Data, frozen=True):
    """`entries` of `stream` (a key) that `reader` (`bot:ID`, `group:NAME` or `grant:NAME`) will never have, about.

    They had ids from `first_id` on and before `before_id`; empty: not known, or nothing is left. `reason`: `memory`,
    the stream took more than its share; `overflow`, nobody read a mailbox; `redis`, the server has lost its data.
    """

    stream: str
    reader: str
    entries: int
    reason: str
    first_id: str = ""
    before_id: str = ""


class BackupCompleted(Data, frozen=True):
    """`name`: of the backup; `size`: its bytes."""

    name: str
    size: int
    duration_s: float
    encrypted: bool = False


class ThreatDetected(Data, frozen=True):
    """`severity`: `low`, `medium` or `high`; `action`: what was done about it."""

    rule: str
    severity: str
    bot_id: int | None = None
    user_id: int | None = None
    detail: str = ""
    action: str = ""


class FleetStarted(Data, frozen=True):
    """`bots`: how many are wanted."""

    version: str
    pid: int | None = None
    bots: int = 0


class FleetStopped(Data, frozen=True):
    """`reason`: why, empty where there is none to give."""

    reason: str = ""
