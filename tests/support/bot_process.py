"""A bot as a real process, forked from a warm forkserver, for whoever plays its supervisor and its users.

Tests get one by the fixture `bot` of tests/integration/bot, the runs of chaos/journal by `BotMaker` itself.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from multiprocessing import forkserver as forkserver_of_python
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import msgspec
from redis.asyncio import Redis

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.topology import Topology
from botctl.handover import BotConfig
from botctl.runtime import messages
from botctl.runtime.frames import FrameReader, frame
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess
from support.stack import UNLIMITED

HERE = Path(__file__).parents[1] / "integration" / "bot"
"""Where the child's side and the tests' handlers are."""

if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
_child: Any = importlib.import_module("bot_child")
until: Any = importlib.import_module("bot_waiting").until

_numbers = count(7_000_001)


def warm_forkserver() -> Any:
    """A multiprocessing context whose forkserver has imported and run through what bots need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bot_warm"])
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join([str(HERE), *_inherited_path()])}):
        forkserver_of_python.ensure_running()
    return context


def _inherited_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _preparation_data(name: str) -> dict[str, Any]:
    return {"name": name, "sys_path": [str(HERE), *sys.path], "authkey": multiprocessing.current_process().authkey}


class BotUnderTest:
    """One bot: its identity, its operator's clients, and the processes it has had."""

    def __init__(
        self, forkserver: Any, telegram: SandboxClient, completion: SandboxClient, admin: Callable[[], Any], log: Path
    ) -> None:
        self.bot_id = next(_numbers)
        self.token = f"{self.bot_id}:secret-{secrets.token_hex(8)}"
        self.telegram = telegram
        self.completion = completion
        self.log = log
        self.folder = str(HERE)
        self.config: dict[str, Any] = {}
        self.credentials: messages.Credentials | None = None
        self.keys: list[messages.Key] = []
        self.messages: list[messages.Upward] = []
        self.spec: dict[str, Any] = {}
        self._forkserver = forkserver
        self._admin = admin
        self._process: Any = None
        self._commands: Connection | None = None
        self._reports: Connection | None = None
        self._incarnation = 0

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def start(self, *, previous_failure: str = "", **spec: Any) -> None:
        """Fork a process. `spec` are keys of the fleet file, kept for later starts."""
        self.spec = {"name": "nora", "token": self.token, "assistant": None, **self.spec, **spec}
        self.spec["limits"] = {**UNLIMITED, **self.spec.get("limits", {})}
        self._incarnation += 1
        config = BotConfig(
            spec=msgspec.Raw(json.dumps(self.spec).encode()), bot_id=self.bot_id, folder=self.folder, **self.config
        )
        commands_out, commands_in = multiprocessing.Pipe(duplex=False)
        reports_out, reports_in = multiprocessing.Pipe(duplex=False)
        configure = messages.Configure(
            name=self.spec["name"],
            incarnation=self._incarnation,
            config=msgspec.Raw(msgspec.json.encode(config)),
            credentials=self.credentials,
            keys=self.keys,
            previous_failure=previous_failure,
        )
        os.write(commands_in.fileno(), frame(messages.encode(configure)))
        self._process = self._forkserver.Process(
            target=_child.run, args=(commands_out, reports_in, str(self.log)), daemon=True
        )
        # A child need not import pytest's own main module: it would no longer be as light as a real bot.
        with mock.patch("multiprocessing.spawn.get_preparation_data", _preparation_data):
            self._process.start()
        commands_out.close()
        reports_in.close()
        self._commands, self._reports = commands_in, reports_out
        self.messages = []
        self._reader = FrameReader(messages.MAX_FRAME)
        os.set_blocking(reports_out.fileno(), False)

    def send(self, message: messages.Message) -> None:
        assert self._commands is not None
        os.write(self._commands.fileno(), frame(messages.encode(message)))

    def receive(self) -> list[messages.Upward]:
        """All the bot has reported so far."""
        assert self._reports is not None
        while True:
            try:
                data = os.read(self._reports.fileno(), 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            self.messages += [messages.decode_upward(body) for body in self._reader.feed(data)]
        return self.messages

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self._process.is_alive(), self.output()
            return any(isinstance(message, messages.Ready) for message in self.receive())

        await until(is_ready, "ready")

    async def heartbeat(self, condition: Callable[[messages.Heartbeat], Any]) -> messages.Heartbeat:
        """The next heartbeat from now on that is as wanted."""
        self.receive()
        seen = len(self.messages)

        async def found() -> messages.Heartbeat | None:
            beats = [one for one in self.receive()[seen:] if isinstance(one, messages.Heartbeat)]
            return next((beat for beat in beats if condition(beat)), None)

        wanted: messages.Heartbeat = await until(found, "a heartbeat as wanted")
        return wanted

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self._process.kill()
        self._process.join()
        self._close()

    async def stop(self, timeout: float = 5.0) -> int:
        """Ask for a graceful end; the exit code."""
        self.send(messages.Stop(timeout=timeout))
        return await self.ended()

    async def ended(self) -> int:
        async def is_over() -> bool:
            self.receive()
            return not self._process.is_alive()

        try:
            await until(is_over, "the end of the process")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-6000:]}") from None
        self._process.join()
        self.receive()
        self._close()
        return int(self._process.exitcode)

    def leave(self) -> None:
        """Close the supervisor's ends, as its death does."""
        assert self._commands is not None
        self._commands.close()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def _close(self) -> None:
        for connection in (self._commands, self._reports):
            if connection is not None and not connection.closed:
                connection.close()

    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    async def say(self, text: str, chat: int = 100) -> None:
        await self.telegram.say(self.bot_id, chat, text)

    async def heard(self, chat: int = 100) -> list[str]:
        """What the bot's users see from it in a chat."""
        transcript = await self.telegram.transcript(self.bot_id, chat)
        return [message["text"] for message in transcript if message["from"]["is_bot"]]

    async def answers(self, number: int, chat: int = 100) -> list[str]:
        """Wait for so many messages."""

        async def enough() -> list[str]:
            heard = await self.heard(chat)
            return heard if len(heard) >= number else []

        try:
            found: list[str] = await until(enough, f"{number} answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\nheard {await self.heard(chat)}\n{self.output()[-6000:]}") from None
        return found

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the superuser; `{bot}` is the bot's id."""
        connection = await self._admin()
        try:
            found: list[asyncpg.Record] = await connection.fetch(sql.replace("{bot}", str(self.bot_id)), *arguments)
            return found
        finally:
            await connection.close()

    async def value(self, sql: str, *arguments: Any) -> Any:
        rows = await self.rows(sql, *arguments)
        return rows[0][0] if rows else None

    async def settled(self, number: int) -> None:
        """Wait until so many inbox rows are worked off and none waits, and all sends are finished."""

        async def is_settled() -> bool:
            states = await self.rows("SELECT state, count(*) FROM inbox WHERE bot_id = {bot} GROUP BY state")
            counts = {row[0]: row[1] for row in states}
            open_sends = await self.value(
                "SELECT count(*) FROM sends WHERE bot_id = {bot} AND state IN ('planned', 'sending')"
            )
            return sum(counts.values()) >= number and not counts.get("new") and not open_sends

        try:
            await until(is_settled, f"{number} rows worked off")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-6000:]}") from None


class BotMaker:
    """Makes bots with a database login, a Redis user and a token."""

    def __init__(self, forkserver: Any, sandbox: SandboxProcess, redis: Redis, valkey_admin_url: str) -> None:
        self.telegram, self.completion = SandboxClient(sandbox.telegram), SandboxClient(sandbox.completion)
        self._forkserver = forkserver
        self._sandbox = sandbox
        self._redis = redis
        self._valkey_admin_url = valkey_admin_url
        self._made: list[BotUnderTest] = []

    async def make(self, database: Any, log: Path) -> BotUnderTest:
        """A bot that isn't started yet; `database` is the tests' `Database`, `log` where its output goes."""

        async def admin() -> Any:
            return await asyncpg.connect(database.admin_url)

        bot = BotUnderTest(self._forkserver, self.telegram, self.completion, admin, log)
        login = await database.add_bot(bot.bot_id)
        password = secrets.token_urlsafe(24)
        bus = BusAdmin(self._redis, Topology("test"))
        await bus.check_version()
        await bus.ensure_bot(bot.bot_id, [hashlib.sha256(password.encode()).hexdigest()])
        bot.credentials = messages.Credentials(generation=1, database=login.password, redis=password)
        url = self._valkey_admin_url
        bot.config = {
            "database": database.target,
            "redis_url": url.split("://")[0] + "://" + url.split("@")[-1],
            "namespace": "test",
            "telegram_base_url": self._sandbox.telegram,
            "openai_api_key": "sk-test-0000000000000001",
            "openai_base_url": self._sandbox.completion,
        }
        await self.telegram.register_bot(bot.token, first_name="Nora", username=f"nora_{bot.bot_id}_bot")
        self._made.append(bot)
        return bot

    async def end(self) -> None:
        """End the bots' processes, take faults back, close the clients."""
        for bot in self._made:
            if bot.alive:
                bot.kill()
        await self.telegram.clear_faults()
        await self.completion.clear_faults()
        await self.telegram.set_limits(chat_burst=0)
        await self.telegram.close()
        await self.completion.close()


@asynccontextmanager
async def bot_maker(
    forkserver: Any, sandbox: SandboxProcess, redis: Redis, valkey_admin_url: str
) -> AsyncIterator[BotMaker]:
    """One whose bots' processes end with it."""
    maker = BotMaker(forkserver, sandbox, redis, valkey_admin_url)
    try:
        yield maker
    finally:
        await maker.end()
