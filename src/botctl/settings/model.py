"""The settings of one daemon: what an operator may set, with defaults and checks. Reads nothing by itself."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from botctl.settings.places import default_data_dir
from botctl.settings.webhook import WebhookSettings

TELEGRAM = "https://api.telegram.org"


class LogFormat(StrEnum):
    """How log lines look: `json` for machines, `console` for people."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least level that is logged by the daemon and by `control`; bots have their own in the fleet file."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class ModelPrice(BaseModel):
    """What a million tokens of one model cost. Without `cached`, cached input tokens cost what others do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    output: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    cached: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)


class Settings(BaseSettings):
    """Every field is `BOTCTL_<FIELD>` in the environment or `<field>` in the TOML file."""

    model_config = SettingsConfigDict(
        env_prefix="BOTCTL_",
        env_ignore_empty=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        frozen=True,
    )

    data_dir: Path = Field(default_factory=default_data_dir, description="Folder of all that the daemon keeps.")
    fleet: Path = Field(default=Path("fleet.yaml"), description="The fleet file.")
    database_url: SecretStr | None = Field(
        default=None, description="postgresql:// URL of an administrator; without it PostgreSQL is embedded."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="redis:// or rediss:// URL of an administrator; without it Valkey is embedded."
    )
    telegram_base_url: str = Field(default=TELEGRAM, description="Root of the Bot API server.")
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] = Field(
        default="botctl", description="Prefix of Redis keys and users, so that two fleets may share a server."
    )
    log_format: LogFormat = LogFormat.JSON
    log_level: LogLevel = LogLevel.INFO
    api_listen: str = Field(
        default="", description="host:port for the readable part of the API and for /metrics; empty for none."
    )
    uid_base: int = Field(
        default=0x70000000,
        ge=1000,
        le=2**32 - 3,
        description="The first of the uids that bots get, one each, when the daemon is root.",
    )
    uid_count: int = Field(default=2**27, ge=1, le=2**31, description="How many uids there are from uid_base.")
    bus_keep: float = Field(default=7, gt=0, le=366, description="Days that the logs of the bus keep events.")
    outbox_keep: float = Field(
        default=2, ge=1, le=168, description="Hours that the database keeps events that Redis has, lest it lose them."
    )
    done_keep: float = Field(
        default=30, ge=2, le=36500, description="Days that handled updates are kept, with their sends and completions."
    )
    parked_after: Annotated[list[Annotated[float, Field(gt=0, lt=24)]], Field(min_length=1)] = Field(
        default=[6, 12, 20, 23],
        description="Hours without updates after which a bot is told as parked; Telegram drops what waits after 24.",
    )
    audit_retention: int = Field(
        default=90, ge=1, le=36500, description="Days that entries of the audit log are kept; they go by whole months."
    )
    prices: dict[Annotated[str, Field(min_length=1, max_length=100)], ModelPrice] = Field(
        default_factory=dict, description="Of models, for what completions cost; a model without one costs nothing."
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(
        default="USD", description="Of the prices: three letters, shown behind what they come to."
    )
    webhook: WebhookSettings | None = Field(
        default=None, description="How Telegram reaches bots with `updates: webhook`; they all poll without."
    )
    fail_with_fleet: bool = Field(
        default=False, description="End the daemon with exit code 1 once every wanted bot is quarantined."
    )
    openai_api_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    openai_base_url: str = Field(default="", validation_alias=AliasChoices("OPENAI_BASE_URL"))

    @model_validator(mode="after")
    def _reachable_by_telegram(self) -> Self:
        if self.webhook is not None and self.telegram_base_url == TELEGRAM and self.webhook.unacceptable:
            raise ValueError(f"webhook.public_url: {self.webhook.unacceptable}")
        return self

    @field_validator("parked_after")
    @classmethod
    def _in_order(cls, value: list[float]) -> list[float]:
        return sorted(set(value))

    @field_validator("data_dir", "fleet")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_url(value.get_secret_value(), ("postgresql", "postgres", "postgresql+asyncpg"))
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_url(value.get_secret_value(), ("redis", "rediss"))
        return value

    @field_validator("telegram_base_url", "openai_base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value:
            _check_url(value, ("https", "http"))
        return value.rstrip("/")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("api_listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value and (match := re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", value)) is None:
            raise ValueError("must be host:port, such as 127.0.0.1:8300")
        if value and match is not None and int(match[1]) > 65535:
            raise ValueError("has a port above 65535")
        return value


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError with a message that doesn't repeat the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("is no URL: its host or port cannot be read") from error
    if parts.scheme not in schemes:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes[:2])
        raise ValueError(f"must begin with {wanted}")
    if not parts.hostname and parts.scheme in ("http", "https", "redis", "rediss"):
        raise ValueError("names no host")
    if port == 0:
        raise ValueError("has port 0")
