"""What the `start` command hands to the daemon: one JSON document on standard input.

Slim on purpose: the daemon imports this module. Secrets travel here and nowhere else, so that they stand neither in
the daemon's arguments nor in its environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from botctl.errors import ProtocolError
from botctl.handover import ExecSpec

_KEPT = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TERM",
        "NO_COLOR",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
        "VIRTUAL_ENV",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "NOTIFY_SOCKET",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_PID",
        "LISTEN_FDS",
        "CREDENTIALS_DIRECTORY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "LD_LIBRARY_PATH",
    }
)
_KEPT_PREFIXES = ("LC_", "PYTHON", "WATCHDOG_", "MALLOC_")


class BootPayload(msgspec.Struct, frozen=True, kw_only=True):
    """All a daemon needs to begin.

    `fleet` is the JSON of `fleet.Fleet`. `database_url` and `redis_url` are empty for the embedded servers. `sandbox`
    is a server of the outside world that the daemon shall run as well: the emulators of the demo.
    """

    data_dir: str
    database_url: str = ""
    redis_url: str = ""
    namespace: str = "botctl"
    fleet: msgspec.Raw
    fleet_path: str | None = None
    fleet_env: dict[str, str] = {}
    telegram_base_url: str = "https://api.telegram.org"
    openai_api_key: str = ""
    openai_base_url: str = ""
    master_keys: str = ""
    """As `security.master_keys` reads them; empty when there are none yet."""
    master_source: str = "file"
    api_listen: str = ""
    log_format: str = "json"
    log_level: str = "INFO"
    foreground: bool = True
    uid_base: int = 0
    uid_count: int = 0
    private: list[str] = []
    """Files with secrets that no bot may read, wherever they stand."""
    fail_with_fleet: bool = False
    """End with exit code 1 once every wanted bot is quarantined."""
    control_options: dict[str, Any] = {}
    """`ControlConfig.options`: `audit_retention`, and what tests set and no setting does."""
    ends_with: int = 0
    """Pid of the parent with which the daemon shall end, stopping as by TERM; 0 for none. The demo's."""
    sandbox: ExecSpec | None = None
    version: str = ""


def encode(payload: BootPayload) -> bytes:
    """The document for the daemon's standard input."""
    return msgspec.json.encode(payload)


def decode(body: bytes) -> BootPayload:
    """The payload of a document. Raises ProtocolError."""
    try:
        return msgspec.json.decode(body, type=BootPayload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(
            f"the daemon got no valid boot document: {error}", hint="Start it with `botctl start`."
        ) from error


def daemon_argv() -> list[str]:
    """How the daemon is started; `-P` keeps the working directory off its module path."""
    return [sys.executable, "-P", "-m", "botctl.cli.daemon"]


def daemon_environment(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables the daemon may see: none that holds a token, a key or a database's address."""
    return {name: value for name, value in env.items() if (name.upper() in _KEPT or name.startswith(_KEPT_PREFIXES))}
