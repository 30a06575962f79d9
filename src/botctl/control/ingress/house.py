"""The thread in which the ingress lives, with a loop and a database connection of its own.

A flood at its socket takes this thread's time, and of `control`'s own loop, with the API on it, no more than its share
of the interpreter: a few milliseconds a turn. The two share plain values only: the door goes in, figures come out.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.ingress.app import IngressApp
from botctl.control.ingress.certificate import Certificate
from botctl.control.ingress.crowd import most_of
from botctl.control.ingress.door import Door
from botctl.control.ingress.figures import Figures
from botctl.control.ingress.gate import Gate, listen_on
from botctl.control.ingress.room import Room
from botctl.control.ingress.telling import Telling
from botctl.control.ingress.writer import Writer
from botctl.security.threat.talkers import Talkers
from botctl.settings.webhook import WebhookSettings
from botctl.storage.inbox import NewRow

_log = structlog.get_logger("botctl.control.ingress")

_GRACE = 2.0
"""Seconds for what is being committed when it is to end."""


class House:
    """`engine` makes the engine, in the thread; `wake` is called there with the bots that have got something.

    Raises BotctlError when it can't listen, or its certificate can't be used.
    """

    def __init__(
        self, settings: WebhookSettings, engine: Callable[[], AsyncEngine], wake: Callable[[Sequence[int]], None]
    ) -> None:
        self.settings = settings
        self.figures = Figures()
        self.room = Room()
        self._telling = Telling()
        self.certificate: Certificate | None = None
        if settings.certificate is not None and settings.key is not None:
            self.certificate = Certificate(settings.certificate, settings.key)
        self.door: Door | None = None
        """Who may come in; None until it is known."""
        self._engine = engine
        self._wake = wake
        self._listener = listen_on(settings.listen)
        self.address = self._listener.getsockname()
        self._talkers: dict[int, Talkers] = {}
        self._talking = threading.Lock()
        self._writer: Writer | None = None
        self._app: IngressApp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._live, name="ingress", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more, let go of everything. May take seconds: not for an event loop."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(main.cancel)
        if self._thread.ident is not None:
            self._thread.join(_GRACE + 1.0)
        self._listener.close()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def problem(self) -> str | None:
        """What is wrong, in the operator's words."""
        if not self.alive:
            return "the ingress for webhooks has ended"
        if self._writer is not None and self._writer.problem is not None:
            return f"updates by webhook can't be stored ({self._writer.problem}); Telegram keeps them"
        if self.certificate is not None and self.certificate.problem is not None:
            return self.certificate.problem
        return None

    @property
    def probe_path(self) -> str:
        """What answers 204, for whoever tries the public address; empty before it serves."""
        return f"/probe/{self._app.nonce}" if self._app is not None else ""

    def gauges(self, bot_id: int) -> Mapping[str, float]:
        """Who floods this bot, as the heartbeat of a bot that polls tells it."""
        with self._talking:
            talkers = self._talkers.get(bot_id)
            return talkers.gauges(time.monotonic()) if talkers is not None else {}

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            _log.exception("the ingress broke")

    async def _serve(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        engine = self._engine()
        writer = self._writer = Writer(engine, self._stored, self._telling)
        app = self._app = IngressApp(lambda: self.door, writer, self.room, self.figures, self._telling)
        gate = Gate(
            app,
            self._listener,
            self.figures,
            tls=lambda: self.certificate.context() if self.certificate is not None else None,
            allow_from=self.settings.allow_from,
            most=most_of(resource.getrlimit(resource.RLIMIT_NOFILE)[0], tls=self.certificate is not None),
        )
        app.crowd = gate.crowd
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(writer.run())
                group.create_task(gate.run())
        except asyncio.CancelledError:
            pass
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GRACE):
                    await engine.dispose()

    def _stored(self, fresh: Mapping[int, Sequence[NewRow]]) -> None:
        now = time.monotonic()
        for bot_id, rows in fresh.items():
            self.figures.stored[bot_id] += len(rows)
            self.figures.last_stored[bot_id] = now
            for row in rows:
                if row.dead is not None:
                    if times := self._telling.times(bot_id, "unreadable", now):
                        _log.error(
                            "an unreadable update became a dead letter", bot_id=bot_id, cause=row.cause, times=times
                        )
                elif row.sender is not None:
                    with self._talking:
                        self._talkers.setdefault(bot_id, Talkers()).saw(row.sender, now)
        self._wake([bot_id for bot_id, rows in fresh.items() if rows])
