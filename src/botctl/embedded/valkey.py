"""The embedded Valkey: makes its folder and access list, and says how the server is to be run.

`<folder>/data` holds the append-only file, `<folder>/users/users.acl` the access list, `<folder>/admin.password` the
password of its default user. Never starts the server: that is the supervisor's.
"""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from botctl.embedded.accounts import Account, check_reachable, server_account
from botctl.embedded.binaries import find_valkey, readable_binary
from botctl.embedded.ports import kept_port
from botctl.embedded.secrets_file import read_password, write_password
from botctl.handover import ExecSpec

_ACCOUNTS = ("valkey", "redis", "postgres", "nobody")
KEYSPACE_EVENTS = "KEt"
"""Keyspace and keyevent messages of stream commands: the event router's doorbell."""


@dataclass(frozen=True)
class EmbeddedValkey:
    """How to run it, and the administrator's URL once it answers."""

    spec: ExecSpec
    admin_url: str


def prepare_valkey(folder: Path, *, max_memory_mb: int = 256, max_clients: int = 10_000) -> EmbeddedValkey:
    """Make `folder` ready. Raises DataFolderError, RefusedError or ServerUnsupportedError."""
    folder = Path(os.path.abspath(folder))
    data = folder / "data"
    account = server_account(_ACCOUNTS, data)
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if account.uid is not None and folder.stat().st_uid == 0:
        folder.chmod(0o711)
    check_reachable(folder, account)
    binary = readable_binary(find_valkey(), account, folder / "binaries")
    for owned in (data, folder / "users"):
        owned.mkdir(mode=0o700, exist_ok=True)
        account.give(owned)
    password = read_password(folder / "admin.password") or write_password(folder / "admin.password")
    access_list = _access_list(folder / "users", account, password)
    port = kept_port(folder / "port")
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "protected-mode": "yes",
        "aclfile": str(access_list),
        "dir": str(data),
        "daemonize": "no",
        "logfile": "",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": f"{max_memory_mb}mb",
        "maxmemory-policy": "noeviction",
        "maxclients": str(max_clients),
        "notify-keyspace-events": KEYSPACE_EVENTS,
        "proto-max-bulk-len": "1mb",
        "client-query-buffer-limit": "8mb",
        # Buffers of connections count as memory used: without a limit one client's refuse every event of all others.
        # A reply may be larger than all buffers, else what one has stored could not be read again.
        "maxmemory-clients": f"{max(16, max_memory_mb * 3 // 16)}mb",
        "client-output-buffer-limit": f"normal {max(24, max_memory_mb // 4)}mb 0 0",
        "slowlog-max-len": "16",
        # Each entry may hold a key of a megabyte. That some were pushed out, the server's count of refusals tells.
        "acllog-max-len": "128",
        "databases": "1",
    }
    spec = ExecSpec(
        name="valkey",
        argv=[str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"},
        cwd="/",
        uid=account.uid,
        gid=account.gid,
        stop_signal=int(signal.SIGTERM),
        death_signal=int(signal.SIGTERM),
        stop_timeout=15.0,
    )
    return EmbeddedValkey(spec, f"redis://default:{quote(password, safe='')}@127.0.0.1:{port}/0")


def _access_list(folder: Path, account: Account, password: str) -> Path:
    """The default user is the administrator. Without rights it would, on some servers, lose the streams' pending
    entries when the append-only file is loaded. Bots' users come from `control`, which has the server add them to this
    file, as SHA-256 hashes, for when it is killed. A new daemon begins without them: some may have been removed since.
    """
    for half in folder.glob("users.acl.tmp-*"):  # of a server that was killed while it wrote
        half.unlink(missing_ok=True)
    digest = hashlib.sha256(password.encode("ascii")).hexdigest()
    path = folder / "users.acl"
    fresh = folder / "users.acl.new"
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(f"user default on sanitize-payload #{digest} ~* &* +@all\n", "ascii")
    account.give(fresh)
    fresh.rename(path)
    return path
