"""The embedded PostgreSQL: makes the data folder when it is new, and says how the server is to be run.

`<folder>/data` is PGDATA, `<folder>/admin.password` the superuser's password, `<folder>/port` the port. The caller
holds the lock of the data folder. Never starts the server: that is the supervisor's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from botctl.embedded.accounts import Account, check_reachable, server_account
from botctl.embedded.binaries import PostgresBinaries, find_postgres, readable_postgres
from botctl.embedded.disks import sync_method
from botctl.embedded.leftovers import end_leftover_postgres
from botctl.embedded.ports import kept_port
from botctl.embedded.secrets_file import read_password, write_password
from botctl.errors import DataFolderError
from botctl.handover import ExecSpec

SUPERUSER = "postgres"
DATABASE = "botctl"
CLUSTERS_OWN = "postgres,template1"
"""Databases that every cluster has."""

MARK = "cluster_name=botctl"
"""In the server's command line: tells a leftover of ours from somebody else's server."""

DATA_LIMIT = 1 << 30
"""RLIMIT_DATA of each server process: one greedy query gets an error instead of the machine's memory (design §4)."""

TEMP_FILE_LIMIT_KB = 1 << 20
HEADROOM = 100
"""Connections beyond those that are asked for. One that has not logged in yet takes a slot too, whosever it is;
`control` shuts away who holds more than 32 (`connection_hog`), and so much is left for the others meanwhile."""

LOGIN_SECONDS = 5
"""Within which a connection must have logged in; then the slot is free again."""

SOCKET_PATH_LIMIT = 80
"""Longest socket folder; the socket's own name follows and all must fit into the 108 bytes of sun_path."""

LOG_FILENAME = "server-%Y%m%d-%H%M%S"
"""In UTC; names follow each other as the files do."""

LOG_ROTATION_KB = 10240
INITDB_TIMEOUT = 120.0
_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class EmbeddedPostgres:
    """How to run it, and the superuser's URL once it answers."""

    spec: ExecSpec
    admin_url: str
    bin: Path
    """Where psql, pg_dump and the others of the same version are."""


def prepare_postgres(folder: Path, *, max_connections: int) -> EmbeddedPostgres:
    """Make `folder` ready for a server with room for `max_connections`.

    Raises DataFolderError, RefusedError or ServerUnsupportedError, each saying what to do.
    """
    folder = Path(os.path.abspath(folder))
    data = folder / "data"
    account = server_account(_ACCOUNTS, data)
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if account.uid is not None and folder.stat().st_uid == 0:
        folder.chmod(0o711)
    check_reachable(folder, account)
    found = find_postgres(_major_of(data))
    run = readable_postgres(found, account, folder / "binaries")
    password = _password(folder, data, run, account)
    end_leftover_postgres(data, MARK)
    port = kept_port(folder / "port")
    access = _access_file(data, account)
    logs = _log_folder(folder, account)
    spec = ExecSpec(
        name="postgres",
        argv=[
            *(str(run.bin / "postgres"), "-D", str(data)),
            *_settings(folder, account, port, max_connections, access, logs),
        ],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"},
        cwd="/",
        uid=account.uid,
        gid=account.gid,
        stop_signal=int(signal.SIGINT),
        death_signal=int(signal.SIGQUIT),
        stop_timeout=30.0,
        data_limit=DATA_LIMIT,
        alone_in=str(data),
    )
    url = f"postgresql://{SUPERUSER}:{quote(password, safe='')}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"
    return EmbeddedPostgres(spec, url, found.bin)


def _major_of(data: Path) -> int | None:
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text("ascii").split(".")[0])
    except (OSError, ValueError) as error:
        raise DataFolderError(
            f"{data} is not a PostgreSQL data folder: {error}", hint="Move it away, or choose another --data-dir."
        ) from None


def _password(folder: Path, data: Path, binaries: PostgresBinaries, account: Account) -> str:
    path = folder / "admin.password"
    if data.exists():
        password = read_password(path)
        if password is None:
            raise DataFolderError(
                f"{path} is missing: without it nobody can administer the database in {data}",
                hint="Restore the file from a backup, or choose another --data-dir.",
            )
        return password
    password = write_password(path)
    _initdb(folder, data, binaries, account, password)
    return password


def _initdb(folder: Path, data: Path, binaries: PostgresBinaries, account: Account, password: str) -> None:
    """Make a data folder under another name and rename it, so that a half-made one is never taken for a real one."""
    workshop = folder / "data.new"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir(mode=0o700)
    account.give(workshop)
    secret = workshop / "password"
    secret.touch(mode=0o600)
    secret.write_text(password, "ascii")
    account.give(secret)
    locale = (
        ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        if binaries.major >= 17
        else ["--locale=C.UTF-8"]
    )
    argv = [
        str(binaries.bin / "initdb"),
        f"--pgdata={workshop / 'data'}",
        f"--username={SUPERUSER}",
        f"--pwfile={secret}",
        "--auth-local=scram-sha-256",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--data-checksums",
        "--no-instructions",
        *locale,
    ]
    try:
        done = subprocess.run(
            argv,
            env={"PATH": "/usr/bin:/bin", "LANG": "C", "TZ": "UTC"},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.uid is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INITDB_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataFolderError(f"initdb did not run: {error}", hint=_hint(str(error))) from None
    if done.returncode != 0:
        last = done.stdout.decode("utf-8", "replace").strip().splitlines()[-5:]
        raise DataFolderError(f"initdb failed in {folder}:\n" + "\n".join(last), hint=_hint("\n".join(last)))
    (workshop / "data").rename(data)
    shutil.rmtree(workshop, ignore_errors=True)


def _hint(said: str) -> str:
    if "open files" in said or "descriptor" in said:
        return "Raise the limit on open files (`ulimit -n`, LimitNOFILE); `botctl doctor` says how many are needed."
    if "No space left" in said or "quota" in said:
        return "Make room there, or name another folder with --data-dir."
    return "Is there room on the disk, and may its account use that folder?"


def _access_file(data: Path, account: Account) -> Path:
    """Who may log in where. Every login may use every database by default, and in the cluster's own ones nothing that
    bots were denied in ours is denied: there they don't come in.
    """
    lines = ["# Written by botctl at every start."]
    for connection, address in (("local", ""), ("host", " 127.0.0.1/32")):
        lines += [f"{connection} {CLUSTERS_OWN} {group}{address} reject" for group in ("+bots", "+bots_ro")]
        lines.append(f"{connection} all all{address} scram-sha-256")
    path = data / "botctl_hba.conf"
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join(lines) + "\n", "ascii")
    account.give(fresh)
    fresh.rename(path)
    return path


def _settings(folder: Path, account: Account, port: int, max_connections: int, access: Path, logs: Path) -> list[str]:
    settings = {
        "hba_file": str(access),
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": _socket_folder(folder, account),
        "unix_socket_permissions": "0700",
        "max_connections": str(max_connections + HEADROOM),
        "authentication_timeout": f"{LOGIN_SECONDS}s",
        "shared_buffers": f"{_shared_buffers_mb()}MB",
        "temp_file_limit": str(TEMP_FILE_LIMIT_KB),
        "fsync": "on",
        "recovery_init_sync_method": sync_method(folder / "data"),
        "password_encryption": "scram-sha-256",
        # One JSON document a message, put together by the collector: on standard error the lines of several sessions
        # mix, so that one could write another's. Statements are left out: they hold what people say.
        "logging_collector": "on",
        "log_destination": "jsonlog",
        "log_directory": str(logs),
        "log_filename": LOG_FILENAME,
        "log_rotation_size": f"{LOG_ROTATION_KB}kB",
        "log_min_error_statement": "panic",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "max_parallel_workers_per_gather": "0",
        "max_wal_size": "512MB",
    }
    argv = ["-c", MARK]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    return argv


def _log_folder(folder: Path, account: Account) -> Path:
    """Where the server writes its messages; `control` passes them on and removes the files."""
    logs = folder / "log"
    logs.mkdir(mode=0o700, exist_ok=True)
    account.give(logs)
    return logs


def _socket_folder(folder: Path, account: Account) -> str:
    """A folder for the server's Unix socket that only its account enters; none where the path would be too long."""
    socket = folder / "socket"
    if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT or any(mark in str(socket) for mark in ',"\\'):
        return ""
    socket.mkdir(mode=0o700, exist_ok=True)
    account.give(socket)
    return str(socket)


def _shared_buffers_mb() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(32, min(256, memory // (1 << 20) // 16))
