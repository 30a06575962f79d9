"""What a fleet is: bots with their tokens, assistants, limits and restart policies. Frozen, unknown keys refused."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from botctl.fleet.subscriptions import SOURCE, Entries, Entry, Subscription, sources_of
from botctl.fleet.threats import Tuning
from botctl.fleet.units import Duration, Size

TOKEN_FORMAT = re.compile(r"(?P<bot_id>[1-9]\d{0,17}):[A-Za-z0-9_-]{3,}")
"""Telegram's own form of a bot token: the bot's id, a colon, and a secret (35 characters today, no length promised).

Whether the secret is right only Telegram can say (401); a wrong one costs its own bot, not the fleet.
"""

NAME_FORMAT = r"^[a-z0-9][a-z0-9_-]{0,31}$"
SOFT_SHARE = 0.8
"""Of the hard memory limit, the soft one unless it is given."""

SMALLEST_PROCESSES = 16
"""Threads of a bot and of its name resolver, with room."""

MOST_GROUPS = 4
"""That one bot may share work of: each takes a connection to Redis."""

HANDLERS_FORMAT = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


RESERVED_NAMES = frozenset(
    {"control", "daemon", "deaths", "forkserver", "postgres", "postgres-messages", "sandbox", "setup", "valkey"}
)
"""Processes of ours, whose names their log files have; and `deaths`, the file of the death history."""


def _http_url(value: str) -> str:
    """Raises without the value: it may hold a password."""
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or any(not character.isprintable() or character.isspace() for character in value):
        raise ValueError("must be a URL that begins with http:// or https:// and names a host")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompletionApi(StrEnum):
    """Which of the two completion APIs a server speaks; `responses` is OpenAI's current one."""

    RESPONSES = "responses"
    CHAT = "chat"


class OnUncertain(StrEnum):
    """What to do with a send whose outcome a crash hid: send again (perhaps twice) or not (perhaps never)."""

    RESEND = "resend"
    SKIP = "skip"


class Updates(StrEnum):
    """How updates come from Telegram: the bot asks for them, or Telegram sends them to the ingress."""

    POLLING = "polling"
    WEBHOOK = "webhook"


class Assistant(_Model):
    """The completion API behind a bot's answers to plain text."""

    instructions: str = "You are a helpful assistant. Answer briefly."
    model: str = "gpt-5-mini"
    api: CompletionApi = CompletionApi.RESPONSES
    api_key: SecretStr | None = Field(default=None, description="Falls back to OPENAI_API_KEY.")
    base_url: HttpUrl | None = Field(default=None, description="Falls back to OPENAI_BASE_URL, then to OpenAI's.")
    history: Annotated[int, Field(ge=0, le=500)] = Field(
        default=40, description="How many earlier messages of the conversation the model is shown."
    )
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    timeout: Duration = Field(default=60.0, description="Seconds for one completion call.")
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    apology: str = "Sorry, I can't think right now. Please try again in a minute."

    @field_serializer("api_key", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        return value.get_secret_value() if value is not None else None


class Access(_Model):
    """Who may talk to the bot, by Telegram user id; an empty `allow` admits everybody but `deny`."""

    allow: frozenset[int] = frozenset()
    deny: frozenset[int] = frozenset()
    refusal: str | None = Field(default=None, description="Answer to those who may not; none when empty.")

    def admits(self, user_id: int | None) -> bool:
        """Whether an update of this user is handled. Updates without a user pass."""
        if user_id is None:
            return True
        return user_id not in self.deny and (not self.allow or user_id in self.allow)


class Limits(_Model):
    """What one bot may use."""

    memory: Size = Field(
        default=512 * 1024**2,
        ge=64 * 1024**2,
        description="Bytes it may have beyond what it shares with all bots from its start: the hard limit.",
    )
    memory_soft: Size | None = Field(
        default=None,
        ge=32 * 1024**2,
        description="Bytes of its own, counted likewise, beyond which it drains and is started anew; 80 % of memory.",
    )
    open_files: Annotated[int, Field(ge=64)] = 1024
    file_size: Size = Field(default=0, ge=0, description="Bytes that one file of it may grow to; 0 for no limit.")
    cpu: Annotated[float, Field(ge=0, le=1024)] = Field(
        default=0.0, description="Cores it may use, such as 0.5; 0 for no limit. Needs control groups."
    )
    processes: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes and threads it may have; 0 for no limit. Needs control groups."
    )
    concurrent_chats: Annotated[int, Field(ge=1, le=1000)] = 32
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5, description="How often an update is tried before it becomes a dead letter."
    )
    sends_per_second: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=30, description="Messages a second to all chats together, as Telegram's FAQ has it; 0 for no limit."
    )
    chat_sends_per_second: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=1.0, description="Messages a second to one chat in the long run; 0 for no limit."
    )
    chat_burst: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5, description="Messages to one chat at once, before chat_sends_per_second holds."
    )
    group_sends_per_minute: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=20, description="Messages a minute to one group or channel; 0 for no limit."
    )

    @model_validator(mode="after")
    def _soft_before_hard(self) -> Self:
        if self.memory_soft is not None and self.memory_soft > self.memory:
            raise ValueError("memory_soft is more than memory")
        if 0 < self.processes < SMALLEST_PROCESSES:
            raise ValueError(f"processes counts threads too; a bot needs at least {SMALLEST_PROCESSES}")
        return self

    @property
    def soft(self) -> int:
        """Bytes of its own beyond which the bot is recycled."""
        return self.memory_soft if self.memory_soft is not None else int(self.memory * SOFT_SHARE)


class IsolationLevel(StrEnum):
    """How a bot's process is kept from others; `auto` is the best that the machine allows."""

    AUTO = "auto"
    UID = "uid"
    LANDLOCK = "landlock"
    NONE = "none"


class Files(_Model):
    """What a bot may use besides what it needs; relative paths count from the fleet file's folder."""

    read: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Files and folders it may read, and run what stands there."
    )
    write: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Folders it may keep files in, and files it may change, besides its own folder."
    )
    listen: bool = Field(
        default=False, description="Whether it may listen on sockets, as managers of `multiprocessing` do on Unix ones."
    )


class Recycle(_Model):
    """When a bot that is well is started anew, each give or take a tenth; a remedy for slow leaks."""

    age: Duration = Field(default=0.0, ge=0, description="After this time; 0 for never.")
    updates: Annotated[int, Field(ge=0)] = Field(default=0, description="After so many updates; 0 for never.")


class Restart(_Model):
    """When a failed bot is started again, and when it is not."""

    intensity: Annotated[int, Field(ge=1)] = Field(
        default=5, description="Failures within `period` after which the bot is quarantined."
    )
    period: Duration = Field(default=60.0, gt=0)
    first_delay: Duration = Field(default=0.1, ge=0)
    max_delay: Duration = Field(default=30.0, ge=0)
    stop_timeout: Duration = Field(default=10.0, gt=0, description="Seconds to drain before TERM, then KILL.")
    ready_timeout: Duration = Field(default=60.0, gt=0, description="Seconds from start to the first getUpdates.")
    heartbeat_timeout: Duration = Field(
        default=10.0, ge=1.0, description="Silence of the event loop after which the bot counts as hung."
    )

    @model_validator(mode="after")
    def _delays_in_order(self) -> Self:
        if self.first_delay > self.max_delay:
            raise ValueError("first_delay is longer than max_delay")
        return self


class BotSpec(_Model):
    """One bot of the fleet, complete: defaults applied, variables replaced, token read."""

    name: Annotated[str, Field(pattern=NAME_FORMAT)]
    token: SecretStr
    enabled: bool = True
    assistant: Assistant | None = Field(default_factory=Assistant)
    handlers: Annotated[str, Field(pattern=HANDLERS_FORMAT)] | None = Field(
        default=None, description="package.module:register, imported with the fleet file's folder on the path."
    )
    proxy: HttpUrl | None = Field(default=None, description="URL of an HTTP proxy for Telegram.")
    updates: Updates = Field(
        default=Updates.POLLING, description="polling, or webhook where the settings have a [webhook]."
    )
    access: Access = Access()
    limits: Limits = Limits()
    restart: Restart = Restart()
    recycle: Recycle = Recycle()
    isolation: IsolationLevel = IsolationLevel.AUTO
    files: Files = Files()
    threats: Tuning = Tuning()
    subscribe: Entries = Field(
        default=(), description="Event types or patterns such as bot.* delivered to it, with conditions or without."
    )
    groups: Annotated[tuple[Annotated[str, Field(pattern=NAME_FORMAT)], ...], Field(max_length=MOST_GROUPS)] = Field(
        default=(), description="Groups whose work it shares: each event for a group goes to one of its bots."
    )
    answers: Entries = Field(
        default=(), description="Requests of other bots that it lets in, as in subscribe; none unless named."
    )
    share: tuple[str, ...] = Field(default=(), description="Event types whose data may carry message text.")
    on_uncertain: OnUncertain = OnUncertain.RESEND
    encrypt_messages: bool = Field(
        default=False, description="Keep text of messages sealed in the database; what is kept already stays as it is."
    )
    log_level: str = "INFO"

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"{value!r} is a name of botctl's own; choose another")
        return value

    @field_validator("token")
    @classmethod
    def _token_has_telegrams_form(cls, value: SecretStr) -> SecretStr:
        if TOKEN_FORMAT.fullmatch(value.get_secret_value()) is None:
            raise ValueError("this is no bot token; @BotFather gives one of the form 123456789:AA…")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _known_level(cls, value: Any) -> Any:
        level = str(value).upper()
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be debug, info, warning or error")
        return level

    @field_serializer("token", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    @field_validator("groups")
    @classmethod
    def _each_group_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a group twice")
        return value

    @property
    def hears(self) -> bool:
        """Whether anything but replies comes to its mailbox."""
        return bool(self.subscribe or self.answers)

    @property
    def bot_id(self) -> int:
        """Telegram's own id of the bot: the number before the colon of its token."""
        match = TOKEN_FORMAT.fullmatch(self.token.get_secret_value())
        assert match is not None
        return int(match["bot_id"])


class Group(_Model):
    """Bots that share work: each event goes to one of them."""

    subscribe: Entries

    @field_validator("subscribe")
    @classmethod
    def _subscribes(cls, value: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if not value:
            raise ValueError("must name at least one event type or pattern")
        return value


class Fleet(_Model):
    """All bots of a fleet file, in its order, and groups by name. `folder` is where handler packages are looked for.

    `private` are files with secrets, which no bot may read: the fleet file and those of tokens.
    """

    bots: tuple[BotSpec, ...] = ()
    groups: dict[Annotated[str, Field(pattern=NAME_FORMAT)], Group] = {}
    folder: str | None = None
    private: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_and_ids_are_unique(self) -> Self:
        if len({bot.name for bot in self.bots}) < len(self.bots):
            raise ValueError("two bots have the same name")
        if len({bot.bot_id for bot in self.bots}) < len(self.bots):
            raise ValueError("two bots have tokens of the same bot")
        if missing := {name for bot in self.bots for name in bot.groups} - self.groups.keys():
            raise ValueError(f"there is no group {sorted(missing)[0]!r}")
        return self

    def by_name(self, name: str) -> BotSpec | None:
        """The bot of this name, if the fleet has it."""
        return next((bot for bot in self.bots if bot.name == name), None)


def entries_with_sources(entries: tuple[Entry, ...]) -> list[tuple[int, tuple[object, ...]]]:
    """Place of each entry that names sources, and what it names."""
    return [
        (place, sources_of(entry.where[SOURCE]))
        for place, entry in enumerate(entries)
        if isinstance(entry, Subscription) and SOURCE in entry.where
    ]
