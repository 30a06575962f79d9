"""The composition root of a bot process: the only place of this room that knows the supervisor's channel.

Start order is built for speed: database and first getUpdates go out at once and side by side, handlers are imported
meanwhile, Redis follows when the bot is ready, the completion client at its first use.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog

from botctl.bot.code_copy import install_copy
from botctl.bot.loading import place_of
from botctl.bot.machine import BotMachine, FatalError
from botctl.bot.secrets import Passwords
from botctl.bot.vitals.own_memory import own_memory
from botctl.errors import BotctlError
from botctl.fleet.model import BotSpec
from botctl.handover import BotConfig
from botctl.observability import logs
from botctl.observability.redaction import Redactor
from botctl.runtime import messages
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.security.vault import Cipher, DataKey

_log = structlog.get_logger("botctl.bot")

_decoder = msgspec.json.Decoder(BotConfig)


def main(channel: Channel) -> int:
    """Be a bot until told to stop; returns the exit code."""
    own_memory.begin()
    config = _decoder.decode(bytes(channel.configure.config))
    spec = BotSpec.model_validate_json(bytes(config.spec))
    redactor = Redactor(disguised=True)
    passwords = Passwords(redactor)
    redactor.add(spec.token.get_secret_value(), config.openai_api_key)
    if spec.assistant is not None and spec.assistant.api_key is not None:
        redactor.add(spec.assistant.api_key.get_secret_value())
    if config.webhook is not None:
        redactor.add(config.webhook.secret)
    _take_credentials(passwords, channel.configure.credentials)
    cipher = Cipher(config.bot_id)
    _take_keys(cipher, redactor, channel.configure.keys)
    logs.configure(
        f"bot {spec.name}",
        format="console" if config.log_format == "console" else "json",
        level=spec.log_level,
        redactor=redactor,
        discreet=spec.encrypt_messages,
    )
    structlog.contextvars.bind_contextvars(bot=spec.name)
    if config.folder and config.folder not in sys.path:
        sys.path.insert(0, config.folder)
    if config.folder and channel.configure.code:
        _log.warning("runs an earlier copy of its handlers' code", code=channel.configure.code)
        install_copy(Path(config.folder), Path(channel.configure.code))
    return asyncio.run(BotProcess(channel, config, spec, passwords, cipher, redactor).run())


class BotProcess:
    """Joins the bot to its supervisor: commands come down, readiness, heartbeats and last words go up."""

    def __init__(
        self,
        channel: Channel,
        config: BotConfig,
        spec: BotSpec,
        passwords: Passwords,
        cipher: Cipher,
        redactor: Redactor,
    ) -> None:
        self._channel = channel
        self._passwords = passwords
        self._cipher = cipher
        self._redactor = redactor
        self._spec = spec
        self._stop = asyncio.Event()
        self._stop_timeout = spec.restart.stop_timeout
        self._log_level = spec.log_level
        self._machine = BotMachine(
            config,
            spec,
            passwords,
            cipher,
            previous_failure=channel.configure.previous_failure,
            on_ready=self._ready,
            on_beat=self._beat,
            on_give_up=self._give_up,
        )

    async def run(self) -> int:
        """The exit code: 0 after a stop, 1 when the bot can't go on."""
        logs.watch_loop()
        commands = asyncio.create_task(self._listen(), name="commands")
        bot = asyncio.create_task(self._machine.run(), name="bot")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait((commands, bot, stop), return_when=asyncio.FIRST_COMPLETED)
            if commands.done() and not stop.done():
                # Nobody is there to work for; what is stored is taken up by the next incarnation.
                commands.result()
                return 0
            if stop.done() and not bot.done():
                await self._machine.stop(self._stop_timeout)
                _log.info("stopped")
                return 0
            bot.result()
        except ChannelClosedError:
            return 0
        except FatalError as error:
            failure = messages.Failure(error.failure)
            self._last_words(failure, str(error))
            if failure is messages.Failure.MEMORY:
                # Updates that are under way may well end; a new process takes up the others.
                await self._machine.stop(self._stop_timeout)
            return 1
        except BotctlError as error:
            self._last_words(messages.Failure.CRASH, str(error))
            return 1
        except Exception as error:
            _log.critical("the bot broke", exc_info=error)
            self._last_words(messages.Failure.CRASH, f"{type(error).__name__}: {error}{place_of(error)}")
            return 1
        return 1

    async def _listen(self) -> None:
        while True:
            message = await self._channel.receive()
            match message:
                case messages.Stop(timeout=timeout):
                    self._stop_timeout = timeout
                    self._stop.set()
                case messages.Rotate(credentials=credentials):
                    _take_credentials(self._passwords, credentials)
                    _log.info("credentials rotated", generation=credentials.generation)
                    self._channel.send(messages.Rotated(generation=credentials.generation))
                case messages.Rekey(keys=keys):
                    _take_keys(self._cipher, self._redactor, keys)
                    _log.info("data keys renewed", newest=self._cipher.newest)
                case messages.Adjust(settings=settings):
                    self._adjust(settings)
                case messages.Wake():
                    self._machine.look()
                case _:
                    _log.warning("message not understood", type=type(message).__name__)

    def _adjust(self, settings: dict[str, Any]) -> None:
        level = settings.get("log_level")
        if isinstance(level, str) and level != self._log_level:
            try:
                logs.set_level(level)
            except ValueError as error:
                _log.warning("setting refused", error=str(error))
            else:
                self._log_level = level
                _log.info("log level changed", level=level)
        if isinstance(webhook := settings.get("webhook"), dict):
            self._redactor.add(str(webhook.get("secret", "")))
        if changed := self._machine.adjust(settings):
            _log.info("limits changed", **changed)

    def _ready(self) -> None:
        _log.info("ready")
        self._channel.send(messages.Ready())

    def _give_up(self, updates: int) -> None:
        self._channel.send(messages.GaveUp(updates=updates))

    def _beat(self, gauges: dict[str, float]) -> None:
        health = self._machine.health
        state = messages.Health.OK
        if health.paused:
            state = messages.Health.PAUSED
        elif health.degraded:
            state = messages.Health.DEGRADED
        self._channel.send(
            messages.Heartbeat(health=state, reason=health.reason, gauges=gauges, counters=dict(health.counters))
        )

    def _last_words(self, failure: messages.Failure, detail: str) -> None:
        _log.critical("the bot can't go on", failure=failure.value, detail=detail)
        try:
            self._channel.send(messages.Failing(failure=failure, detail=self._redactor.redact(detail)[:2000]))
        except ChannelClosedError:
            return


def warm_settings() -> None:
    """Fill the caches of decoding a bot's settings, before the fork."""
    spec = BotSpec.model_validate({"name": "warm", "token": "1:warm-up"})
    BotSpec.model_validate_json(spec.model_dump_json())
    logs.configure("forkserver", level="WARNING", redactor=Redactor())


def _take_keys(cipher: Cipher, redactor: Redactor, keys: list[messages.Key]) -> None:
    redactor.add(*(key.material for key in keys))
    cipher.take([DataKey(cipher.bot_id, key.id, base64.b64decode(key.material)) for key in keys])


def _take_credentials(passwords: Passwords, credentials: messages.Credentials | None) -> None:
    if credentials is not None:
        passwords.take(
            database=(credentials.database, credentials.previous_database),
            redis=(credentials.redis, credentials.previous_redis),
        )
