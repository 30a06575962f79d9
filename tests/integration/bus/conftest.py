"""A namespace of its own for each test on the session's Valkey, and servers of its own for tests that end them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.events import Event
from botctl.bus.relay import Relay
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import prepare_valkey

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Row:
    """A row of an outbox."""

    seq: int
    event: Event


@dataclass
class Outbox:
    """An outbox in memory: the double of the table, for tests of the bus alone."""

    rows: dict[int, Event] = field(default_factory=dict)
    broken: bool = False
    seq: int = 0

    def put(self, *events: Event) -> None:
        """Commit these."""
        for event in events:
            self.seq += 1
            self.rows[self.seq] = event

    async def pending(self, limit: int) -> list[Row]:
        """As the port says."""
        if self.broken:
            raise OSError("the database is away")
        return [Row(seq, event) for seq, event in sorted(self.rows.items())[:limit]]

    async def mark_relayed(self, seqs: list[int]) -> None:
        """As the port says."""
        if self.broken:
            raise OSError("the database is away")
        for seq in seqs:
            self.rows.pop(seq, None)


class Bus:
    """One installation's bus on a server, with what a test needs of it."""

    def __init__(self, admin_url: str) -> None:
        self.url = admin_url
        self.topology = Topology(f"t{secrets.token_hex(4)}")
        self.redis = connect(admin_url)
        self.admin = BusAdmin(self.redis, self.topology)
        self.passwords: dict[int, str] = {}
        self.subscribers: dict[int, tuple[str, ...]] = {}
        self._clients: list[Redis] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def plain_url(self) -> str:
        """Without userinfo, as a bot gets it."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    async def add_bot(self, bot_id: int, *subscribe: str) -> None:
        """Make the bot's part of the bus and put it into the fleet."""
        self.passwords[bot_id] = secrets.token_urlsafe(16)
        await self.apply(bot_id)
        self.subscribers[bot_id] = subscribe

    async def apply(self, *bots: int) -> None:
        """Make users, streams and groups, as after a loss."""
        await self.admin.ensure_logs()
        await self.admin.ensure_bots({bot: [digest(self.passwords[bot])] for bot in bots or self.passwords})

    async def know(self) -> None:
        """Put marker and beat among the data, as the keeper does once all is made."""
        async with self.admin.look() as look:
            await look.begin()
            await look.know(time.time())

    def bot_client(self, bot_id: int, *, blocking: bool = False, passwords: tuple[str, ...] = ()) -> Redis:
        """A client as the bot's process has it."""
        wanted = passwords or (self.passwords[bot_id],)
        client = connect(
            self.plain_url, username=self.topology.user(bot_id), passwords=lambda: wanted, blocking=blocking
        )
        self._clients.append(client)
        return client

    def client(self, *, blocking: bool = False) -> Redis:
        """Another client of the administrator's."""
        client = connect(self.url, blocking=blocking)
        self._clients.append(client)
        return client

    def start(self, runner: Relay | Router) -> asyncio.Task[None]:
        """Run it until the test ends."""
        task = asyncio.create_task(runner.run())
        self._tasks.append(task)
        return task

    def router(self, **options: object) -> Router:
        """A router over the test's fleet, not started."""
        return Router(self.redis, self.topology, lambda: Roster.of(self.subscribers), **options)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        """End everything and leave nothing on the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            for bot_id in await self.admin.known_bots():
                await self.admin.drop_user(bot_id)
            keys = [key async for key in self.redis.scan_iter(match=f"{self.topology.namespace}:*", count=1000)]
            if keys:
                await self.redis.delete(*keys)
        for client in [*self._clients, self.redis]:
            await client.aclose()


class Server:
    """A Valkey that a test may kill and start again on the same data."""

    def __init__(self, folder: Path, *extra: str) -> None:
        made = prepare_valkey(folder)
        self.url = made.admin_url
        self.folder = folder
        self._spec = made.spec
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        spec = self._spec
        self._process = subprocess.Popen(
            [*spec.argv, *self._extra],
            env=spec.env,
            cwd=spec.cwd,
            user=spec.uid,
            group=spec.gid,
            extra_groups=None if spec.uid is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: _libc.prctl(1, signal.SIGKILL),
        )
        deadline = time.monotonic() + 20
        while not ping_valkey(self.url):
            assert time.monotonic() < deadline, "valkey doesn't answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()


def digest(password: str) -> str:
    """What the server keeps of a password."""
    return hashlib.sha256(password.encode()).hexdigest()


@pytest.fixture(scope="session")
def redis_admin_url() -> Iterator[str]:
    """Administrator's URL of a Redis, where one is installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server is installed")
    folder = Path(tempfile.mkdtemp(prefix="botctl-redis-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--requirepass", "test-password"],
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: _libc.prctl(1, signal.SIGKILL),
    )
    url = f"redis://default:test-password@127.0.0.1:{port}/0"
    deadline = time.monotonic() + 20
    while not ping_valkey(url):
        assert time.monotonic() < deadline, "redis doesn't answer"
        time.sleep(0.01)
    yield url
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["valkey", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """A bus of the test's own on the session's server: the embedded Valkey, and Redis where it's installed."""
    made = Bus(request.getfixturevalue(f"{request.param}_admin_url"))
    yield made
    await made.aclose()


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """Makes a server of the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-bus-"))
    folder.chmod(0o755)
    made: list[Server] = []

    def make(*extra: str) -> Server:
        made.append(Server(folder / f"valkey{len(made)}", *extra))
        return made[-1]

    yield make
    for server in made:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def make_bus() -> AsyncIterator[Callable[[str], Bus]]:
    """Makes a bus on any server."""
    made: list[Bus] = []

    def make(url: str) -> Bus:
        made.append(Bus(url))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def new_outbox() -> Callable[[], Outbox]:
    """Makes an outbox in memory."""
    return Outbox


@pytest.fixture
def sha256() -> Callable[[str], str]:
    """What the server keeps of a password."""
    return digest


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Polls a condition, plain or async, until it holds; fails after `timeout` seconds."""

    async def poll(check: Callable[[], object], timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            result = check()
            if isinstance(result, Awaitable):
                result = await result
            if result:
                return
            assert time.monotonic() < deadline, "the condition didn't come true in time"
            await asyncio.sleep(0.01)

    return poll
