"""Starting a daemon: settings and fleet are read and checked here, then everything is handed over in one document.

Nothing has been changed when a file is wrong. Secrets pass through memory only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from botctl import __version__
from botctl.cli.boot import BootPayload, daemon_argv, daemon_environment, encode
from botctl.cli.client import ApiClient
from botctl.cli.note import DaemonNote, live_note, read_note
from botctl.cli.shared import say
from botctl.errors import BotctlError, DataFolderError, ExitCode, UsageError
from botctl.fleet import Fleet, load_fleet
from botctl.fleet.load import referenced_variables
from botctl.fleet.model import Updates
from botctl.security import master_keys
from botctl.settings.model import Settings
from botctl.settings.places import DataFolder, settings_file

START_TIMEOUT = 180.0
"""Seconds until the API must answer: a first start makes a database cluster."""
NO_INGRESS = "{}: updates: webhook, and the settings have no [webhook]"
_POLL = 0.05
_TAIL_LINES = 15


class StartError(BotctlError):
    """The daemon ended instead of serving."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        if code in (int(ExitCode.USAGE), int(ExitCode.REFUSED)):
            self.exit_code = ExitCode(code)


def read_fleet(path: Path, env: Mapping[str, str]) -> tuple[Fleet, dict[str, str]]:
    """The fleet, and those variables that its file asks for. Raises InvalidFileError."""
    fleet = load_fleet(path, env)
    wanted = referenced_variables(path.read_text(encoding="utf-8"))
    return fleet, {name: env[name] for name in sorted(wanted) if name in env}


def payload_of(settings: Settings, fleet: Fleet, fleet_env: dict[str, str], *, foreground: bool) -> BootPayload:
    """The document for the daemon. Raises VaultError for a master key that can't be used."""
    refuse_unreachable(settings, fleet)
    masters = master_keys.find(os.environ, settings.data_dir)
    return BootPayload(
        data_dir=str(settings.data_dir),
        database_url=settings.database_url.get_secret_value() if settings.database_url is not None else "",
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url is not None else "",
        namespace=settings.namespace,
        fleet=msgspec.Raw(fleet.model_dump_json().encode()),
        fleet_path=str(settings.fleet),
        fleet_env=fleet_env,
        telegram_base_url=settings.telegram_base_url,
        openai_api_key=settings.openai_api_key.get_secret_value() if settings.openai_api_key is not None else "",
        openai_base_url=settings.openai_base_url,
        master_keys=masters.keys.text() if masters is not None else "",
        master_source=masters.source.value if masters is not None else master_keys.Source.FILE.value,
        api_listen=settings.api_listen,
        uid_base=settings.uid_base,
        uid_count=settings.uid_count,
        private=[
            str(file.resolve())
            for file in (
                settings_file(),
                masters.path if masters is not None else None,
                settings.webhook.key if settings.webhook is not None else None,
            )
            if file is not None
        ],
        log_format=settings.log_format.value,
        log_level=settings.log_level.value,
        foreground=foreground,
        fail_with_fleet=settings.fail_with_fleet,
        control_options={
            "audit_retention": settings.audit_retention,
            "bus_keep": settings.bus_keep,
            "outbox_keep": settings.outbox_keep,
            "done_keep": settings.done_keep,
            "parked_after": settings.parked_after,
            "prices": {model: price.model_dump() for model, price in settings.prices.items()},
            "currency": settings.currency,
            "webhook": settings.webhook.model_dump(mode="json") if settings.webhook is not None else None,
        },
        version=__version__,
    )


def refuse_unreachable(settings: Settings, fleet: Fleet) -> None:
    """Raise UsageError for bots that want their updates by webhook when there is no ingress for them."""
    named = [bot.name for bot in fleet.bots if bot.updates is Updates.WEBHOOK]
    if named and settings.webhook is None:
        raise UsageError(NO_INGRESS.format(", ".join(named)), hint="config/botctl.example.toml shows [webhook].")


def refuse_second(folder: DataFolder) -> None:
    """Raise DataFolderError when a live daemon has the folder."""
    note = live_note(folder)
    if note is not None:
        raise DataFolderError(
            f"a daemon runs on {folder.root} already (pid {note.pid})",
            hint="Stop it with `botctl stop`, or name another folder with --data-dir.",
        )


def become_daemon(payload: BootPayload) -> None:
    """Turn this process into the daemon. Does not return."""
    document = _document(payload)
    os.dup2(document, 0)
    os.close(document)
    argv = daemon_argv()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], argv, daemon_environment())


def spawn_daemon(payload: BootPayload) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a daemon in a session of its own; and what it writes before its log is open."""
    document = _document(payload)
    words = tempfile.TemporaryFile(prefix="botctl-")  # noqa: SIM115 - read after the daemon has ended
    try:
        process = subprocess.Popen(
            daemon_argv(),
            stdin=document,
            stdout=words,
            stderr=words,
            env=daemon_environment(),
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(document)
    return process, words


def wait_until_serving(process: subprocess.Popen[bytes], words: IO[bytes], folder: DataFolder) -> DaemonNote:
    """Wait for the API. Raises StartError with the reason when the daemon ends, or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT
    told = ""
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            raise StartError(_why(folder, words, code), code)
        note = live_note(folder)
        if note is not None and note.pid == process.pid and note.state == "serving":
            try:
                ApiClient(note).get("/v1/status", timeout=5.0)
            except BotctlError:
                pass
            else:
                return note
        waiting = _waited_for(folder, process.pid)
        if waiting not in ("", told):
            told = waiting
            say(waiting)
        time.sleep(_POLL)
    raise StartError(
        f"the daemon (pid {process.pid}) does not serve after {START_TIMEOUT:g} s; it goes on trying\n"
        + _tail(folder.log("daemon")),
        1,
    )


def _waited_for(folder: DataFolder, pid: int) -> str:
    """What the daemon's set-up says it waits for; empty when it does not wait."""
    note = read_note(folder)
    return note.waiting if note is not None and note.pid == pid else ""


def _document(payload: BootPayload) -> int:
    """A descriptor from which the payload is read; the file has no name."""
    descriptor = os.memfd_create("botctl-boot", os.MFD_CLOEXEC)
    body = encode(payload)
    while body:
        body = body[os.write(descriptor, body) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _why(folder: DataFolder, words: IO[bytes], code: int) -> str:
    try:
        return folder.boot_error.read_text(encoding="utf-8").strip()
    except OSError:
        words.seek(0)
        said = words.read().decode("utf-8", "replace").strip().removeprefix("botctl: error: ")
        return said or f"the daemon ended with exit code {code}\n{_tail(folder.log('daemon'))}".strip()


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
    except OSError:
        return ""
