"""The bot's side of its webhook: has Telegram send updates to the ingress, and looks now and then that it still does.

In the place of the poller, with the same figures. Never takes an update itself, and never drops what Telegram holds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
import structlog
from telegram.error import NetworkError

from botctl.bot.faults import brief
from botctl.bot.receiving.arrivals import Arrivals
from botctl.bot.receiving.raw_answer import RawAnswer
from botctl.bot.receiving.token_refusal import BadTokenError
from botctl.bot.receiving.updates import ALLOWED_UPDATES
from botctl.bot.receiving.webhook_rules import differs, failing, waiting
from botctl.bot.sending.transport import Transport
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.backoff import Backoff
from botctl.handover import WebhookTarget
from botctl.security.threat.talkers import Talkers

_log = structlog.get_logger("botctl.bot.receiving.hook")

EVERY = 60.0
"""Seconds between two looks at what Telegram has."""


class Hook:
    """Runs until it is cancelled, or raises BadTokenError. `on_ready` is called when Telegram has the webhook."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        target: WebhookTarget | None,
        health: Health,
        arrivals: Arrivals,
        *,
        on_ready: Callable[[], None],
        clock: Callable[[], float],
        every: float = EVERY,
    ) -> None:
        self._transport = transport
        self._url = url
        self._target = target
        self._health = health
        self._arrivals = arrivals
        self._on_ready = on_ready
        self._clock = clock
        self._every = every
        self._ready = False
        self._network = Backoff(first=0.1, limit=10.0)
        self._refusals = Backoff(first=1.0, limit=60.0)
        self._held_until = 0.0
        self._told = asyncio.Event()
        self.talkers = Talkers()
        """Of nobody: the ingress sees who sends."""
        self.last_poll = clock()
        """When Telegram last said that no update waits; before that, when this began. What comes is in the inbox."""
        arrivals.counts = True

    @property
    def last_commit(self) -> float:
        """When an update was last taken up."""
        return self._arrivals.last

    @property
    def held(self) -> float:
        """Seconds for which Telegram has told us not to ask; 0 when it hasn't."""
        return max(0.0, self._held_until - self._clock())

    def take(self, target: Mapping[str, Any] | None) -> bool:
        """From now on this; whether it is another one. Nothing is no target: the last one stays."""
        if target is None:
            return False
        fresh = msgspec.convert(target, WebhookTarget)
        if fresh == self._target:
            return False
        self._target = fresh
        self._told.set()
        return True

    async def run(self) -> None:
        """See to the webhook. Raises BadTokenError."""
        while True:
            self._told.clear()
            target = self._target
            if target is None:
                self._health.trouble(Trouble.TELEGRAM, "waits to be told where updates are to be sent")
                await self._told.wait()
                continue
            if await self._see_to(target):
                await self._pause()

    async def _see_to(self, target: WebhookTarget) -> bool:
        """One look, and what has to be done; whether all is well now."""
        answer = await self._call("getWebhookInfo")
        if answer is None:
            return False
        try:
            info = answer.result
        except ValueError as error:
            await self._unreachable(f"unreadable answer: {brief(error, 100)}")
            return False
        if why := differs(info, target, ALLOWED_UPDATES):
            if self._ready:
                _log.warning("the webhook is not as it was set; setting it again", why=why)
            return await self._set(target, why)
        if not waiting(info):
            self.last_poll = self._clock()
        self._succeeded(failing(info, time.time()))
        return True

    async def _set(self, target: WebhookTarget, why: str) -> bool:
        form = aiohttp.FormData()
        form.add_field("url", target.url)
        form.add_field("secret_token", target.secret)
        form.add_field("max_connections", str(target.max_connections))
        form.add_field("allowed_updates", json.dumps(ALLOWED_UPDATES))
        form.add_field("drop_pending_updates", "false")
        if target.certificate:
            form.add_field("certificate", target.certificate.encode(), filename="certificate.pem")
        if await self._call("setWebhook", form) is None:
            return False
        _log.info("the webhook is set", why=why, address=target.url.partition("?")[0])
        self._succeeded("")
        return True

    async def _call(self, method: str, data: Any = None) -> RawAnswer | None:
        """The answer to a call that succeeded; None after waiting because it did not. Raises BadTokenError."""
        try:
            answer = RawAnswer(*await self._transport.request("POST", f"{self._url}/{method}", data=data))
        except NetworkError as error:
            await self._unreachable(brief(error))
            return None
        if answer.status == 200:
            return answer
        if answer.refuses_the_token:
            raise BadTokenError(answer.description)
        if answer.status == 429:
            self._held_until = self._clock() + answer.retry_after
            wait = f"telegram asks us to wait for {answer.retry_after:.0f} s"
            _log.warning("asking too fast", method=method, retry_after=answer.retry_after)
            self._health.trouble(Trouble.TELEGRAM, wait)
            await asyncio.sleep(answer.retry_after)
        elif answer.status < 500 and answer.is_telegrams:
            self._health.trouble(Trouble.TELEGRAM, f"telegram refuses the webhook: {answer.description}")
            delay = self._refusals.next()
            _log.error(f"{method} refused", reason=answer.description, retry_in=round(delay, 2))
            await self._pause(delay)
        else:
            await self._unreachable(answer.description)
        return None

    def _succeeded(self, trouble: str) -> None:
        self._network.reset()
        self._refusals.reset()
        if trouble:
            self._health.trouble(Trouble.TELEGRAM, f"telegram can't deliver updates: {trouble}")
        else:
            self._health.well(Trouble.TELEGRAM)
        if not self._ready:
            self._ready = True
            self._on_ready()

    async def _unreachable(self, reason: str) -> None:
        self._health.trouble(Trouble.TELEGRAM, "telegram is not reachable")
        delay = self._network.next()
        _log.warning("telegram can't be asked about the webhook", reason=reason, retry_in=round(delay, 2))
        await asyncio.sleep(delay)

    async def _pause(self, seconds: float | None = None) -> None:
        """Until the next look is due, or something else is wanted."""
        try:
            async with asyncio.timeout(self._every if seconds is None else seconds):
                await self._told.wait()
        except TimeoutError:
            pass
