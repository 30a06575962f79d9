"""What one process is handed by another at its start: the JSON behind `Configure`, and servers to be exec'd.

These structs cross process borders, so they live below every room that makes or reads them.
"""

from __future__ import annotations

from typing import Any

import msgspec


class ExecSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A server that the daemon runs as a supervised child: an embedded PostgreSQL, a Valkey, the sandbox.

    `uid`/`gid` are dropped to when the daemon is root. `stop_signal` asks it to end; `death_signal` is what the kernel
    sends it when the supervisor is gone (PR_SET_PDEATHSIG). `env` is its whole environment.
    """

    name: str
    argv: list[str]
    env: dict[str, str] = {}
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    stop_signal: int = 15
    death_signal: int = 15
    stop_timeout: float = 10.0
    data_limit: int = 0
    """RLIMIT_DATA in bytes; 0 for none."""
    alone_in: str = ""
    """Folder in which no other process may run the program of `argv`: what a killed server has left there is ended."""


class DatabaseTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where PostgreSQL is, without a login."""

    host: str
    port: int = 5432
    database: str = "botctl"
    sslmode: str = "prefer"


class DatabaseLogin(msgspec.Struct, frozen=True, kw_only=True):
    """Where PostgreSQL is, with a login."""

    target: DatabaseTarget
    user: str
    password: str


class WebhookTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a bot tells Telegram of where to send its updates. `url` changes whenever anything of it does."""

    url: str
    secret: str
    max_connections: int = 40
    certificate: str = ""
    """PEM, to be given to Telegram; empty for one that an authority has signed."""


class BotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All a bot process may know besides its credentials. `spec` is the JSON of `fleet.BotSpec`."""

    spec: msgspec.Raw
    bot_id: int
    folder: str | None
    """Folder of the fleet file: first on the path when `handlers` are imported."""
    database: DatabaseTarget
    redis_url: str
    """Without userinfo; the bot logs in as `<namespace>-bot-<bot_id>`."""
    namespace: str
    telegram_base_url: str
    openai_api_key: str = ""
    openai_base_url: str = ""
    log_format: str = "json"
    ignored: dict[str, float] = {}
    """Users whose updates are set aside, and until when (seconds since the epoch). Adjusted while the bot runs."""
    canary: str = ""
    """SHA-256, in hexadecimal, of a word that must not leave the bot: it stands in rows that are nobody's. Likewise."""
    webhook: WebhookTarget | None = None
    """For a bot with `updates: webhook`. Likewise."""


class SetupConfig(msgspec.Struct, frozen=True, kw_only=True):
    """For the one-shot set-up child: the administrator's logins. It alone ever has them."""

    database_url: str
    redis_url: str
    namespace: str
    wait: float = 60.0
    """Seconds to wait for the servers to answer."""
    own_database: bool = False
    """Whether it is the embedded server, used by nobody else."""


class SetupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What set-up found and made."""

    control: DatabaseLogin
    postgres_version: str
    redis_version: str
    migrated_from: str | None
    migrated_to: str
    master_checks: list[tuple[int, str]] = []
    """Versions of the master key that wrap data keys in this database, each with its check."""


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """For `control`. `fleet` is the JSON of `fleet.Fleet` as the operator's command resolved it, or null."""

    database: DatabaseLogin
    redis_url: str
    """The administrator's, with userinfo."""
    namespace: str
    data_dir: str
    socket: str
    """Path of the Unix socket to serve the API on."""
    version: str
    fleet: msgspec.Raw = msgspec.Raw(b"null")
    fleet_path: str | None = None
    fleet_env: dict[str, str] = {}
    """Variables the fleet file asks for, so that SIGHUP can read it again."""
    applied: msgspec.Raw = msgspec.Raw(b"null")
    """What the last `control` applied, when this one replaces it; takes precedence over `fleet`."""
    credentials: dict[str, int] = {}
    """Generation of the credentials the supervisor holds, by bot_id: these bots need no new ones."""
    data_keys: dict[str, int] = {}
    """Id of the newest data key the supervisor holds, by bot_id."""
    master_keys: str = ""
    """As `security.master_keys` reads them; empty for none: then nothing is sealed."""
    master_source: str = "file"  # credential | environment | named file | file
    telegram_base_url: str = "https://api.telegram.org"
    openai_api_key: str = ""
    openai_base_url: str = ""
    api_listen: str = ""
    """host:port for the API and /metrics beside the Unix socket; empty for none."""
    api_token: str = ""
    """What a command over the Unix socket has to show."""
    uid_base: int = 0
    uid_count: int = 0
    private: list[str] = []
    """Files with secrets that no bot may read, wherever they stand."""
    log_format: str = "json"
    log_level: str = "INFO"
    own_redis: bool = False
    """Whether it is the embedded server, used by nobody else."""
    own_database: bool = False
    """Likewise."""
    options: dict[str, Any] = {}
