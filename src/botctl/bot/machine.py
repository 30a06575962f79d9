"""A bot from its first connection to its last: puts the parts of this room together and runs them.

Knows nothing of a supervisor; whoever runs it is told of readiness and of every heartbeat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from telegram.error import InvalidToken, TelegramError

from botctl.bot.assembly import Parts, assemble
from botctl.bot.builtin import publish_commands
from botctl.bot.faults import brief
from botctl.bot.loading import HandlersError, load_handlers
from botctl.bot.receiving.hook import Hook
from botctl.bot.receiving.looking import Looking
from botctl.bot.receiving.poller import Poller
from botctl.bot.receiving.token_refusal import BadTokenError
from botctl.bot.secrets import Passwords
from botctl.bot.tasks import end
from botctl.bot.vitals import open_files
from botctl.bot.vitals.health import Health, Trouble
from botctl.bot.vitals.heartbeat import Heartbeat
from botctl.bot.vitals.shortage import ShortageError, shortage_of
from botctl.bus.backoff import Backoff
from botctl.errors import BotctlError
from botctl.fleet.model import BotSpec, Updates
from botctl.handover import BotConfig
from botctl.security.vault import Cipher

_log = structlog.get_logger("botctl.bot.machine")

_RELAY_SHARE = 1.5
"""Seconds of a stop that are kept for relaying the last events."""


class FatalError(BotctlError):
    """The bot can't go on. `failure` names the class of failure: `bad_token`, `code` or `memory`."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class BotMachine:
    """`previous_failure` is how the incarnation before this one failed, empty when it didn't or nobody knows.

    `on_ready` is called after the first successful getUpdates, or when Telegram has the webhook, `on_beat` about once a
    second with the gauges, `on_give_up` with the number of updates that become dead letters because they ended earlier
    processes.
    """

    def __init__(
        self,
        config: BotConfig,
        spec: BotSpec,
        passwords: Passwords,
        cipher: Cipher,
        *,
        previous_failure: str,
        on_ready: Callable[[], None],
        on_beat: Callable[[dict[str, float]], None],
        on_give_up: Callable[[int], None],
    ) -> None:
        self.health = Health()
        self._config = config
        self._spec = spec
        self._previous_failure = previous_failure
        self._on_ready = on_ready
        self._on_beat = on_beat
        self._on_give_up = on_give_up
        self._parts: Parts = assemble(config, spec, passwords, self.health, cipher)
        self._poller = self._receiver()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._looking = Looking(self._parts.intake.look, time.monotonic)
        self._hooked = False

    def _receiver(self) -> Poller | Hook:
        """How updates come from Telegram."""
        parts, spec = self._parts, self._spec
        url = f"{self._config.telegram_base_url.rstrip('/')}/bot{spec.token.get_secret_value()}"
        if spec.updates is Updates.WEBHOOK:
            return Hook(
                parts.transport,
                url,
                self._config.webhook,
                self.health,
                parts.arrivals,
                on_ready=self._ready,
                clock=time.monotonic,
            )
        return Poller(
            parts.transport,
            url,
            parts.intake,
            self.health,
            on_ready=self._ready,
            clock=time.monotonic,
            ready_timeout=spec.restart.ready_timeout,
        )

    async def run(self) -> None:
        """Work until cancelled. Raises FatalError; after one of `memory`, `stop` still ends the bot in order."""
        try:
            await self._run()
        except ShortageError as error:
            raise FatalError("memory", str(error)) from error
        except MemoryError as error:
            raise FatalError("memory", str(shortage_of(error))) from error

    async def _run(self) -> None:
        parts = self._parts
        parts.transport.open()
        poll = self._spawn("poller", self._poller.run())
        first = self._spawn("database", parts.database.first())
        await asyncio.sleep(0)  # Both are on their way before the handlers are imported.
        try:
            load_handlers(self._spec, parts.application, parts.context)
            parts.finish_handlers()
        except HandlersError as error:
            raise FatalError("code", str(error)) from error
        heartbeat = self._spawn("heartbeat", self._heartbeat().run())
        start = self._spawn("start", self._start(first))
        for pattern in parts.reactions.unheard(self._spec.subscribe) if not self._spec.groups else ():
            _log.warning("a reaction waits for events that subscribe: does not let in", pattern=pattern)
        watchers = {
            self._spawn("token", parts.token_refusal.watch()),
            self._spawn("memory", parts.shortage.watch()),
        }
        essential = {poll, start, heartbeat, *watchers}
        while True:
            done, _ = await asyncio.wait(essential, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    task.result()
                except (BadTokenError, InvalidToken) as error:
                    raise FatalError("bad_token", self._refusal(error)) from error
                essential.discard(task)
            if start in done:
                essential.add(self._tasks["dispatcher"])

    def _refusal(self, error: Exception) -> str:
        """What Telegram says of the token, and which Telegram."""
        said = str(error) if isinstance(error, BadTokenError) else f"Telegram refuses the token: {error}"
        return f"{said} (said {urlsplit(self._config.telegram_base_url).hostname})"

    async def stop(self, timeout: float) -> None:
        """End gracefully: no more polling, what is under way is finished, the rest is left to the next incarnation."""
        parts, deadline = self._parts, time.monotonic() + timeout * 0.9
        await self._cancel("poller")
        start = self._tasks.get("start")
        if start is not None and self._hooked:  # A post_init that has begun is let end, as a handler is.
            await asyncio.wait({start}, timeout=max(deadline - time.monotonic() - _RELAY_SHARE, 0.0))
        await self._cancel("start", "dispatcher", "look", "jobs")
        interrupted = await parts.dispatcher.drain(deadline - time.monotonic() - _RELAY_SHARE)
        if interrupted:
            _log.warning("interrupted; the next incarnation takes them up", updates=interrupted)
        await self._cancel("recovery", "commands")
        application = parts.application
        if application.running:
            await self._limited("stop", application.stop(), deadline)
        if self._hooked and application.post_stop is not None:
            await self._limited("post_stop", application.post_stop(application), deadline)
        await parts.bus.stop(min(_RELAY_SHARE, max(deadline - time.monotonic(), 0.1)))
        await self._limited("shutdown", application.shutdown(), deadline)
        if self._hooked and application.post_shutdown is not None:
            await self._limited("post_shutdown", application.post_shutdown(application), deadline)
        await self._cancel(*self._tasks)
        if parts.completion is not None:
            await self._limited("completion client", parts.completion.close(), deadline)
        await parts.transport.close()
        await parts.database.close()

    async def _start(self, first: asyncio.Task[Any]) -> None:
        """Everything that comes before the first update is handled."""
        parts = self._parts
        await asyncio.gather(first, self._initialize())
        await parts.memory.open()
        if given_up := await parts.suspects.find(self._previous_failure):
            self._on_give_up(given_up)
        await parts.whereabouts.load()
        await parts.recovery.find()
        await parts.intake.refill()
        if parts.application.post_init is not None:
            await publish_commands(parts.application)
            self._hooked = True
            await parts.application.post_init(parts.application)
        else:
            self._hooked = True
            self._spawn("commands", publish_commands(parts.application))
        await parts.memory.flush()  # what handlers have put there before there was anything to handle
        self._spawn("recovery", parts.recovery.deliver(parts.dispatcher.wake))
        self._spawn("dispatcher", parts.dispatcher.run())
        self._spawn("look", self._looking.run())
        self._spawn("jobs", parts.jobs.run())
        parts.bus.start(parts.intake, parts.asking.take)

    async def _initialize(self) -> None:
        backoff = Backoff(first=0.1, limit=10.0)
        while True:
            try:
                await self._parts.application.initialize()
                await self._parts.application.start()
            except InvalidToken:
                raise
            except TelegramError as error:
                _log.warning("getMe failed", error=brief(error))
                await asyncio.sleep(backoff.next())
            else:
                return

    def _ready(self) -> None:
        self._on_ready()

    def adjust(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Take over what may change while it runs; limits and how many users are set aside, if it has changed."""
        changed = self._parts.limits.adjust(settings)
        self._parts.guard.take(settings.get("canary"))
        if self._parts.ignored.take(settings.get("ignored")):
            changed["ignored_users"] = len(self._parts.ignored)
        if isinstance(self._poller, Hook) and self._poller.take(settings.get("webhook")):
            _log.info("the webhook is to be another one")
        if changed:
            self._parts.dispatcher.wake()
        return changed

    def look(self) -> None:
        """Somebody else has put rows into the inbox."""
        self._looking.wake()

    def _heartbeat(self) -> Heartbeat:
        parts = self._parts
        return Heartbeat(
            parts.database,
            parts.inbox,
            parts.outbox,
            self.health,
            gauges=self._gauges,
            must_ask=lambda: parts.intake.behind or not parts.bus.flowing,
            report=self._on_beat,
            timeout=min(self._spec.restart.heartbeat_timeout, self._spec.restart.ready_timeout),
        )

    def _gauges(self) -> dict[str, float]:
        parts, now = self._parts, time.monotonic()
        parts.bus.check()
        if out := open_files.shortage():
            self.health.trouble(Trouble.OPEN_FILES, out)
        else:
            self.health.well(Trouble.OPEN_FILES)
        stuck = parts.dispatcher.stuck()
        if stuck >= parts.limits.places:
            self.health.trouble(Trouble.STUCK, "all handlers are stuck")
        else:
            self.health.well(Trouble.STUCK)
        return {
            "inbox_depth": float(len(parts.lanes)),
            "outbox_depth": 0.0,
            "last_poll_age_s": round(now - self._poller.last_poll, 3),
            "last_commit_age_s": round(now - self._poller.last_commit, 3),
            "poll_held_s": round(self._poller.held, 3),
            "lanes": float(parts.lanes.busy),
            "stuck_handlers": float(stuck),
            **self._poller.talkers.gauges(now),
        }

    def _spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        return task

    async def _cancel(self, *names: str) -> None:
        await end([task for name in names if (task := self._tasks.get(name)) is not None])

    async def _limited(self, what: str, work: Coroutine[Any, Any, Any], deadline: float) -> None:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.1)):
                await work
        except TimeoutError:
            _log.warning("took too long while stopping", what=what)
        except Exception as error:
            _log.error("failed while stopping", what=what, exc_info=error)
