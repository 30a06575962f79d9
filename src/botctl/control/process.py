"""Composition root of the control process: the pipe to the supervisor, the API's servers, and the assembly between.

Lives on while PostgreSQL or Redis are away; ends when told to, or with its supervisor.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import setproctitle
import structlog

from botctl.api.app import create_app
from botctl.control.assembly import Assembly
from botctl.control.ports import FleetSight, Passwords, Transition, WantedBot, WantedFleet
from botctl.control.serve import Server, make_server, tcp_socket, unix_socket
from botctl.errors import BotctlError
from botctl.handover import ControlConfig
from botctl.observability.logs import configure, set_level, watch_loop
from botctl.observability.redaction import Redactor
from botctl.runtime import messages
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.security import master_keys

_log = structlog.get_logger("botctl.control")

_ANSWER_TIMEOUT = 3.0
_PSS_EVERY = 10
_SUPERVISOR_GONE = -1.0


def main(channel: Channel) -> int:
    """Be `control` until told to stop."""
    config = msgspec.json.decode(channel.configure.config, type=ControlConfig)
    setproctitle.setproctitle("botctl: control")
    redactor = Redactor(_secrets(config))
    configure(
        "control",
        format="console" if config.log_format == "console" else "json",
        level=config.log_level,
        redactor=redactor,
    )
    return asyncio.run(_run(channel, config, redactor))


class PipeSupervisor:
    """The supervisor at the other end of the channel; answers are matched with questions by their id."""

    def __init__(self, channel: Channel, redactor: Redactor) -> None:
        self._channel = channel
        self._redactor = redactor
        self._last_id = 0
        self._asked: dict[int, asyncio.Future[messages.Snapshot | messages.CommandResult]] = {}

    def desire(self, fleet: WantedFleet) -> None:
        """Make this the wanted fleet."""
        for bot in fleet.bots:
            self._redactor.add(*bot.secrets)
        bots = [_child(bot) for bot in fleet.bots]
        self._channel.send(messages.Desired(generation=fleet.generation, bots=bots, applied=msgspec.Raw(fleet.applied)))

    def rotate(self, bot_id: int, passwords: Passwords) -> None:
        """Give a running bot new credentials."""
        self._channel.send(messages.Rotate(credentials=_credentials(passwords), bot_id=bot_id))

    def wake(self, bot_id: int) -> None:
        """Have a running bot look into its inbox."""
        self._channel.send(messages.Wake(bot_id=bot_id))

    def recorded(self, seq: int) -> None:
        """Every transition up to this one is stored."""
        self._channel.send(messages.Recorded(seq=seq))

    def hear(self, bot_id: int, deaf: bool, reason: str = "") -> None:
        """A bot is deaf, or hears again."""
        self._channel.send(messages.Hearing(bot_id=bot_id, deaf=deaf, reason=reason))

    async def sight(self) -> FleetSight:
        """The supervisor's view now. Raises TimeoutError."""
        answer = await self._ask(lambda number: messages.GetSnapshot(id=number))
        return msgspec.convert(answer, FleetSight, from_attributes=True)

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        """Pass a command on. Raises TimeoutError."""
        answer = await self._ask(lambda number: messages.Command(id=number, verb=verb, name=name, reason=reason))
        assert isinstance(answer, messages.CommandResult)
        return answer.ok, answer.message

    def assign(self, bots: Iterable[int], generation: int, code: Mapping[int, str]) -> None:
        """From now on these bots start from this generation and with this copy of their code."""
        sources = {bot_id: messages.Source(generation=generation, code=code.get(bot_id, "")) for bot_id in bots}
        self._channel.send(messages.Assign(sources=sources))

    async def generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        """Renew, promote or retire a generation of the forkserver. Raises TimeoutError."""
        answer = await self._ask(lambda asked: messages.Generation(id=asked, verb=verb, number=number))
        assert isinstance(answer, messages.CommandResult)
        return answer.ok, answer.message, answer.generation

    def answered(self, answer: messages.Snapshot | messages.CommandResult) -> None:
        """Give an answer to whoever asked."""
        future = self._asked.pop(answer.id, None)
        if future is not None and not future.done():
            future.set_result(answer)

    async def _ask(self, question: Callable[[int], messages.Message]) -> messages.Snapshot | messages.CommandResult:
        self._last_id += 1
        number = self._last_id
        future: asyncio.Future[messages.Snapshot | messages.CommandResult]
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._channel.send(question(number))
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await future
        finally:
            self._asked.pop(number, None)


async def _run(channel: Channel, config: ControlConfig, redactor: Redactor) -> int:
    loop = asyncio.get_running_loop()
    watch_loop(loop)
    supervisor = PipeSupervisor(channel, redactor)
    assembly = Assembly(config, supervisor)
    try:
        servers = await _serve(assembly, config)
    except BotctlError as error:
        channel.send(messages.Failing(failure=messages.Failure.EXIT, detail=_in_full(error)))
        return 1
    stop_timeout: asyncio.Future[float] = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, _resolve, stop_timeout, 2.0)
    channel.send(messages.Ready())
    assembly.start()
    beating = asyncio.create_task(_beat(channel, assembly))
    receiving = asyncio.create_task(_receive(channel, supervisor, assembly, stop_timeout))
    receiving.add_done_callback(lambda _: _resolve(stop_timeout, _SUPERVISOR_GONE))
    timeout = await stop_timeout
    if timeout == _SUPERVISOR_GONE:
        if not isinstance(failure := receiving.exception(), ChannelClosedError | None):
            raise failure
        _log.error("the supervisor is gone")
        os._exit(1)  # Whatever is under way belongs to a daemon that no longer exists.
    _log.info("stopping")
    for task, server in servers:
        server.should_exit = True
        await asyncio.wait({task}, timeout=1.5)
    await assembly.close(max(1.0, timeout - 2.0))
    for task in (beating, receiving):
        task.cancel()
    return 0


def _resolve(future: asyncio.Future[float], value: float) -> None:
    if not future.done():
        future.set_result(value)


async def _receive(
    channel: Channel, supervisor: PipeSupervisor, assembly: Assembly, stop_timeout: asyncio.Future[float]
) -> None:
    """Take what the supervisor says. Raises ChannelClosedError when it is gone."""
    reloads: set[asyncio.Task[None]] = set()
    while True:
        match await channel.receive():
            case messages.Stop(timeout=timeout):
                _resolve(stop_timeout, timeout)
            case messages.Snapshot() | messages.CommandResult() as answer:
                supervisor.answered(answer)
            case messages.Lifecycle() as lifecycle:
                assembly.recorder.take(msgspec.convert(lifecycle, Transition, from_attributes=True))
            case messages.Reload():
                task = asyncio.create_task(assembly.reload())
                reloads.add(task)
                task.add_done_callback(reloads.discard)
            case messages.Adjust(settings=settings) if isinstance(settings.get("log_level"), str):
                set_level(settings["log_level"])
            case other:
                _log.warning("unexpected message", type=type(other).__name__)


async def _serve(assembly: Assembly, config: ControlConfig) -> list[tuple[asyncio.Task[None], Server]]:
    """Serve the API. Raises BotctlError when the socket can't be had; a TCP address may be taken, that is told."""
    commanding = create_app(
        assembly.service,
        version=config.version,
        token=config.api_token,
        audit=assembly.audit,
        desks=(assembly.traces, assembly.letters),
        bus=assembly.bus_desk,
        sending=(assembly.sends, assembly.webhooks),
    )
    made = [(commanding, unix_socket(Path(config.socket)))]
    if config.api_listen:
        # Whoever reaches a TCP port is nobody in particular: they may look, not command.
        reading = create_app(assembly.service, version=config.version, commands=False)
        try:
            made.append((reading, tcp_socket(config.api_listen)))
        except BotctlError as error:
            assembly.api_problem = f"api: {error.message}"
            _log.error("the API is served on its Unix socket only", reason=error.message, hint=error.hint)
    servers: list[tuple[asyncio.Task[None], Server]] = []
    for app, listener in made:
        server = make_server(app)
        servers.append((asyncio.create_task(server.serve(sockets=[listener]), name="api"), server))
    while not all(server.started for _, server in servers):
        for task, _ in servers:
            if task.done():
                raise BotctlError(f"the API can't be served: {task.exception()}")
        await asyncio.sleep(0.005)
    return servers


async def _beat(channel: Channel, assembly: Assembly) -> None:
    count = 0
    pss = 0.0
    while True:
        if count % _PSS_EVERY == 0:
            pss = _pss_mb()
        count += 1
        problems = assembly.problems()
        channel.send(
            messages.Heartbeat(
                health=messages.Health.DEGRADED if problems else messages.Health.OK,
                reason="; ".join(problems)[:300],
                gauges={"pss_mb": pss},
            )
        )
        await asyncio.sleep(1.0)


def _child(bot: WantedBot) -> messages.BotChild:
    return messages.BotChild(
        name=bot.name,
        bot_id=bot.bot_id,
        digest=bot.digest,
        config=msgspec.Raw(bot.config),
        policy=messages.RestartPolicy(**bot.restart),
        live=bot.live,
        memory=bot.memory,
        open_files=bot.open_files,
        file_size=bot.file_size,
        cpu=bot.cpu,
        processes=bot.processes,
        enabled=bot.enabled,
        credentials=_credentials(bot.passwords) if bot.passwords is not None else None,
        secrets=list(bot.secrets),
        keys=[messages.Key(id=number, material=material) for number, material in bot.keys],
        isolation=msgspec.convert(bot.isolation, messages.Isolation | None, from_attributes=True),
    )


def _credentials(passwords: Passwords) -> messages.Credentials:
    return msgspec.convert(passwords, messages.Credentials, from_attributes=True)


def _secrets(config: ControlConfig) -> list[str]:
    found = [config.database.password, config.openai_api_key, unquote(urlsplit(config.redis_url).password or "")]
    if config.master_keys:
        found += master_keys.parse(config.master_keys).words()
    return [secret for secret in (*found, config.api_token) if secret]


def _in_full(error: BotctlError) -> str:
    return f"{error.message}\n{error.hint}" if error.hint else error.message


def _pss_mb() -> float:
    try:
        text = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
