"""The whole stack of a chaos run, in a folder of its own: the sandbox, a daemon and its fleet.

Never uses servers, tokens or keys of the operator's: the embedded servers, the sandbox's tokens, and its completions
unless real ones are asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
from pydantic import SecretStr

from botctl.cli import starting
from botctl.cli.boot import BootPayload
from botctl.cli.chaos.borrowed import sandboxed
from botctl.cli.chaos.processes import descendants, of_daemon, process_gone
from botctl.cli.client import ApiClient, bot_path
from botctl.cli.shared import say
from botctl.errors import BotctlError
from botctl.fleet import Fleet
from botctl.sandbox.process import SandboxProcess, start_sandbox
from botctl.settings.load import load_settings
from botctl.settings.places import DataFolder

STOP_WAIT = 60.0
READY_WAIT = 90.0
_POLL = 0.05


def counted(metric: str, lines: Iterable[str], bots: Mapping[str, int]) -> dict[int, int]:
    """What a counter says in the text of `/metrics`, by bot_id."""
    told = re.compile(rf'botctl_{metric}_total\{{.*?bot="([^"]+)".*\}} (\S+)')
    found = (told.match(line) for line in lines)
    return {bots[one[1]]: int(float(one[2])) for one in found if one is not None and one[1] in bots}


class Stage:
    """One stack. Use as a context manager: everything has ended and is deleted after it."""

    def __init__(self, fleet: Fleet, fleet_file: Path, *, real_completions: bool = False) -> None:
        self.fleet = sandboxed(fleet, real_completions=real_completions)
        self._file = fleet_file
        self._real = real_completions
        self.folder = Path(tempfile.mkdtemp(prefix="botctl-chaos-"))
        self.folder.chmod(0o755)  # PostgreSQL and bots run as others where the daemon is root
        self.data = DataFolder(self.folder / "data")
        self._sandbox: SandboxProcess | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._payload: BootPayload | None = None
        self._client: ApiClient | None = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def bots(self) -> dict[str, int]:
        """Ids of the bots that run, by name."""
        return {bot.name: bot.bot_id for bot in self.fleet.bots if bot.enabled}

    @property
    def sandbox(self) -> SandboxProcess:
        """The outside world."""
        assert self._sandbox is not None, "the stage has not been started"
        return self._sandbox

    @property
    def daemon_pid(self) -> int:
        """The supervisor's."""
        assert self._daemon is not None, "the stage has not been started"
        return self._daemon.pid

    def start(self) -> None:
        """Start everything and wait until every bot runs. Raises BotctlError."""
        self._sandbox = start_sandbox("--any-bot", "--any-chat")
        settings = load_settings(data_dir=self.data.root, fleet=self._file)
        update: dict[str, Any] = {
            "telegram_base_url": self._sandbox.telegram,
            "database_url": None,
            "redis_url": None,
            "api_listen": "",
        }
        if not self._real:
            update["openai_base_url"] = self._sandbox.completion
            update["openai_api_key"] = SecretStr("sk-sandbox-needs-no-key")
        settings = settings.model_copy(update=update)
        payload = starting.payload_of(settings, self.fleet, {}, foreground=False)
        self._payload = msgspec.structs.replace(payload, master_keys="", master_source="file", ends_with=os.getpid())
        self.start_daemon()
        self.until_running()

    def start_daemon(self) -> None:
        """Start the daemon, for the first time or after its end, and wait until it serves. Raises StartError."""
        assert self._payload is not None
        self._daemon, words = starting.spawn_daemon(self._payload)
        with words:
            self._wait(words)

    def _wait(self, words: IO[bytes]) -> None:
        assert self._daemon is not None
        self._client = ApiClient(starting.wait_until_serving(self._daemon, words, self.data))

    def kill_daemon(self) -> None:
        """KILL the supervisor and wait until all its processes have ended with it."""
        assert self._daemon is not None
        family = descendants(self._daemon.pid)
        self._daemon.kill()
        self._daemon.wait()
        deadline = time.monotonic() + STOP_WAIT
        while not all(process_gone(pid) for pid in family) and time.monotonic() < deadline:
            time.sleep(_POLL)

    def pid_of(self, name: str) -> int | None:
        """The process of a bot, a server or `control` now; `supervisor` is the daemon itself."""
        return self.daemon_pid if name == "supervisor" else of_daemon(self.daemon_pid, name)

    def restart(self, name: str) -> None:
        """`botctl restart NAME`. Raises BotctlError."""
        assert self._client is not None
        self._client.post(bot_path(name, "restart"), timeout=10.0)

    def status(self) -> dict[str, Any]:
        """GET /v1/status. Raises BotctlError, ControlAwayError while `control` is away."""
        assert self._client is not None
        return self._client.get("/v1/status", timeout=10.0)

    def counted(self, metric: str) -> dict[int, int]:
        """What a metric says, by bot_id: `sends_uncertain` is botctl_sends_uncertain_total. Raises BotctlError."""
        assert self._client is not None
        return counted(metric, (line.decode() for line in self._client.lines("/metrics", {})), self.bots)

    def starts(self, name: str) -> int:
        """How often a bot has been started so far, in all daemons of this stage. Raises BotctlError."""
        assert self._client is not None
        return len(self._client.get("/v1/runs", {"bot": name, "limit": 1000})["runs"])

    async def open_sends(self) -> int | None:
        """Rows of the send journal that are planned or begun; None while the database is away."""
        import asyncpg

        from botctl.embedded.address import postgres_admin_url
        from botctl.storage.engine import connect
        from botctl.storage.url import parse_database_url

        try:
            connection = await connect(parse_database_url(postgres_admin_url(self.data.root / "postgres")))
        except (asyncpg.PostgresError, OSError, TimeoutError):
            return None
        try:
            found = await connection.fetchval("SELECT count(*) FROM sends WHERE state IN ('planned', 'sending')")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return None
        finally:
            connection.terminate()
        return int(found)

    def until_running(self) -> None:
        """Wait for every bot. Raises BotctlError when one can't run or takes too long."""
        deadline = time.monotonic() + READY_WAIT
        while True:
            bots: list[dict[str, Any]] = []
            with contextlib.suppress(BotctlError):
                bots = [bot for bot in self.status()["bots"] if bot["name"] in self.bots]
            states = {bot["name"]: bot["state"] for bot in bots}
            if all(states.get(name) in ("running", "degraded") for name in self.bots):
                return
            if "quarantined" in states.values() or time.monotonic() > deadline:
                told = ", ".join(f"{bot['name']} is {bot['state']} ({bot['reason']})" for bot in bots)
                raise BotctlError(f"not every bot runs: {told or 'control does not answer'}")
            time.sleep(_POLL)

    def keep_logs(self, target: Path) -> None:
        """Copy the logs to a folder, for whoever wants to know why; what can't be kept is told."""
        try:
            shutil.copytree(self.data.root / "logs", target, dirs_exist_ok=True)
        except OSError as error:
            say(f"not all logs could be kept in {target}: {error.strerror or error}")

    def end(self) -> None:
        """End everything, whatever state it is in, and delete it."""
        try:
            if self._daemon is not None:
                self._end_daemon(self._daemon)
        finally:
            if self._sandbox is not None:
                self._sandbox.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_daemon(self, daemon: subprocess.Popen[bytes]) -> None:
        family = descendants(daemon.pid)
        if daemon.poll() is None:
            daemon.terminate()
            try:
                daemon.wait(STOP_WAIT)
            except subprocess.TimeoutExpired:
                say("the daemon does not end; it is killed")
                daemon.kill()
                daemon.wait()
        for pid in family:
            if not process_gone(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
