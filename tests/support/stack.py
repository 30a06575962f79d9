"""A whole stack for end-to-end tests: the sandbox as the outside world, and a real daemon started by the real command.

Everything runs in a folder of its own and is ended by pid, also when a test fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import redis.asyncio as redis
import yaml

from botctl.cli.chaos.processes import descendants, process_gone
from botctl.sandbox.client import SandboxClient

ROOT = Path(__file__).parents[2]
UNLIMITED = {"sends_per_second": 0, "chat_sends_per_second": 0, "group_sends_per_minute": 0}
"""`limits` of bots that don't wait for Telegram's flood control, which most tests are not about."""

BOTCTL = [sys.executable, "-P", "-m", "botctl"]
DEADLINE = 60.0


def token(bot_id: int) -> str:
    """A well-formed bot token."""
    return f"{bot_id}:" + f"AAE2etest-{bot_id}-".ljust(35, "x")


async def eventually(condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
    """Poll a condition (plain or async) until it holds; its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.02)


class Stack:
    """One data folder with its fleet file, and the sandbox it talks to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.fleet_file = folder / "fleet.yaml"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("BOTCTL_", "OPENAI_"))},
            "BOTCTL_DATA_DIR": str(self.data),
            "OPENAI_API_KEY": "sk-e2e-0123456789abcdef0123456789abcdef",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        self._sandbox = subprocess.Popen(
            [sys.executable, "-m", "botctl.sandbox", "--any-bot"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._sandbox.stdout is not None
        self.urls: dict[str, str] = json.loads(self._sandbox.stdout.readline())
        completion = self.urls["completion"].rstrip("/")
        self.environment["BOTCTL_TELEGRAM_BASE_URL"] = self.urls["telegram"]
        self.environment["OPENAI_BASE_URL"] = completion if completion.endswith("/v1") else completion + "/v1"
        self.pids: set[int] = set()

    def write_fleet(self, *bots: dict[str, Any], **defaults: Any) -> None:
        """Write the fleet file. Its bots send as fast as they can: users of tests don't read."""
        defaults["limits"] = UNLIMITED | defaults.get("limits", {})
        self.fleet_file.write_text(yaml.safe_dump({"defaults": defaults, "bots": list(bots)}, sort_keys=False))

    def cli(self, *arguments: str, timeout: float = 120.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        done = subprocess.run(
            [*BOTCTL, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"botctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self) -> None:
        """`botctl start --detach`, as an operator does."""
        self.cli("start", "--fleet", str(self.fleet_file), "--detach")
        self.pids.add(self.daemon_pid)

    def fleet_events(self) -> list[str]:
        """What the bus's log has been told of the fleet as a whole, such as `started`."""
        told = self.cli("events", "--log", "system", "--json").stdout.splitlines()
        types = [json.loads(line)["type"] for line in told]
        return [one.removeprefix("fleet.") for one in types if one.startswith("fleet.")]

    @property
    def daemon_pid(self) -> int:
        """The supervisor's pid."""
        return int((self.data / "run" / "daemon.pid").read_text())

    def status(self) -> dict[str, Any]:
        """`botctl status --json`."""
        status: dict[str, Any] = json.loads(self.cli("status", "--json").stdout)
        return status

    def bot(self, name: str) -> dict[str, Any]:
        """One bot of the status."""
        found: dict[str, dict[str, Any]] = {bot["name"]: bot for bot in self.status()["bots"]}
        assert name in found, f"the status has only {sorted(found)}"
        return found[name]

    async def until_running(self, *names: str, timeout: float = DEADLINE) -> None:
        """Wait for bots to answer their users."""

        def running() -> bool:
            states = {bot["name"]: bot["state"] for bot in self.status()["bots"]}
            return all(states.get(name) in ("running", "degraded") for name in names)

        await eventually(running, f"{names} running", timeout)

    async def service_pid(self, name: str) -> int:
        """Pid of a supervised server or of `control`."""
        services = self.status()["services"]
        found = next((service for service in services if service["name"] == name), None)
        assert found is not None, services
        return int(found["pid"])

    def metrics(self) -> str:
        """The body of /metrics."""
        transport = httpx.HTTPTransport(uds=str(self.data / "run" / "api.sock"))
        shown = {"Authorization": f"Bearer {(self.data / 'api.token').read_text()}"}
        with httpx.Client(transport=transport, headers=shown) as client:
            return client.get("http://botctl/metrics", timeout=10).raise_for_status().text

    def sandbox(self) -> SandboxClient:
        """A client of the emulated Telegram, for the user's side."""
        return SandboxClient(self.urls["telegram"])

    @property
    def database_url(self) -> str:
        """The administrator's."""
        return self.cli("db", "url").stdout.strip()

    async def rows(self, query: str, *arguments: Any, url: str | None = None) -> list[asyncpg.Record]:
        """Rows of a query, as the administrator."""
        connection = await asyncpg.connect(url or self.database_url)
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return found
        finally:
            await connection.close()

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[redis.Redis]:
        """The embedded Valkey, as the administrator."""
        from botctl.embedded.address import valkey_admin_url

        client = redis.Redis.from_url(valkey_admin_url(self.data / "valkey"), decode_responses=True)
        try:
            yield client
        finally:
            await client.aclose()

    def logs(self) -> str:
        """All log files, for a failing test's report and for searching."""
        return "\n".join(path.read_text(errors="replace") for path in sorted((self.data / "logs").glob("*.log*")))

    def end(self) -> None:
        """Stop everything, whatever state it is in."""
        if (self.data / "run" / "daemon.pid").exists():
            pid = self.daemon_pid
            assert pid > 1, "a pid of another namespace names nobody here"
            family = descendants(pid)
            self.cli("stop", check=False, timeout=60)
            for process in (pid, *family):
                if not process_gone(process):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
        self._sandbox.send_signal(signal.SIGTERM)
        try:
            self._sandbox.wait(10)
        except subprocess.TimeoutExpired:
            self._sandbox.kill()
            self._sandbox.wait(10)


@contextlib.contextmanager
def new_stack() -> Iterator[Stack]:
    """A short folder that an unprivileged PostgreSQL may enter; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-e2e-"))
    folder.chmod(0o755)
    made = Stack(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
