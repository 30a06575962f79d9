"""Takes the webhooks of bots that have left the fleet away from Telegram; what waits there stays there, for a day.

Nobody else could: the bot's process ends without knowing why, and Telegram would knock for ever. What it takes is kept,
sealed, beside the webhook's secret as long as the bot is there: so also one that left while the daemon was down is seen
to, and a try that failed is made again. Never takes away a webhook that is not of our making.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import aiohttp
import structlog

from botctl.bus.backoff import Backoff
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ingress.secrets import WebhookSecret, is_ours
from botctl.control.watching.hearing import tls
from botctl.errors import BotctlError
from botctl.fleet import BotSpec, Fleet
from botctl.fleet.model import Updates

_log = structlog.get_logger("botctl.control.ingress")

LOOK_EVERY = 0.25
TIMEOUT = 15.0
"""Seconds for one call."""
AT_ONCE = 4
RETRY = 10.0
LONGEST_WAIT = 600.0
"""Seconds between two tries."""


@dataclass(slots=True)
class _Gone:
    backoff: Backoff = field(default_factory=lambda: Backoff(first=1.0, limit=LONGEST_WAIT))
    due: float = 0.0


class Leaving:
    """`telegram` is the root of the Bot API server."""

    def __init__(self, keeper: FleetKeeper, telegram: str) -> None:
        self._keeper = keeper
        self._telegram = telegram.rstrip("/")
        self._gone: dict[int, _Gone] = {}
        self._known: tuple[Fleet | None, int] = (None, -1)
        self._not_before = 0.0
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._note()
            await asyncio.gather(*(self._see_to(bot_id) for bot_id in self._due(time.monotonic())))
            await asyncio.sleep(LOOK_EVERY)

    async def _note(self) -> None:
        """Keep what it takes to take the webhooks of today's bots away, and see who has left."""
        fleet, webhooks = self._keeper.fleet, self._keeper.vault.webhooks
        if fleet is None or not self._keeper.vault.loaded:
            return
        if (self._known[0] is fleet and self._known[1] == webhooks.changed) or time.monotonic() < self._not_before:
            return
        for bot in fleet.bots:
            secret = webhooks.get(bot.bot_id) if bot.updates is Updates.WEBHOOK else None
            if secret is not None and (secret.token, secret.proxy) != (way := _way(bot)):
                try:
                    await self._keeper.keep_webhook_way(bot.bot_id, *way)
                except BotctlError as error:
                    self._not_before = time.monotonic() + RETRY
                    _log.warning("what takes a webhook away can't be kept", bot=bot.name, reason=error.message)
        if time.monotonic() >= self._not_before:
            self._known = (fleet, webhooks.changed)
        there = {bot.bot_id for bot in fleet.bots}
        left = {bot_id for bot_id, secret in webhooks.everybody.items() if secret.token} - there
        self._gone = {bot_id: self._gone.get(bot_id) or _Gone() for bot_id in left}

    def _due(self, now: float) -> Collection[int]:
        return [bot_id for bot_id, gone in self._gone.items() if gone.due <= now]

    async def _see_to(self, bot_id: int) -> None:
        secret = self._keeper.vault.webhooks.get(bot_id)
        if secret is None:
            return
        target = self._keeper.webhook
        async with self._slots:
            done = await take_away(bot_id, secret, self._telegram, target.certificate if target is not None else "")
        if done:
            try:
                await self._keeper.keep_webhook_way(bot_id, "", "")
            except BotctlError as error:
                _log.warning("that a webhook is gone can't be kept", bot_id=bot_id, reason=error.message)
            else:
                self._gone.pop(bot_id, None)
                return
        if (gone := self._gone.get(bot_id)) is not None:
            gone.due = time.monotonic() + gone.backoff.next()


def _way(bot: BotSpec) -> tuple[str, str]:
    return bot.token.get_secret_value(), bot.proxy or ""


async def take_away(bot_id: int, secret: WebhookSecret, telegram: str, certificate: str) -> bool:
    """Whether there is nothing more to do for this bot. Never raises; never shows the token."""
    root = f"{telegram}/bot{quote(secret.token, safe=':')}"
    connector = aiohttp.TCPConnector(ssl=tls() if root.startswith("https:") else True)
    try:
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(TIMEOUT)
        ) as session:

            async def call(method: str, **data: str) -> tuple[int, str]:
                request = session.post(f"{root}/{method}", data=data, proxy=secret.proxy or None, allow_redirects=False)
                async with request as response:
                    found = (await response.json(content_type=None)).get("result")
                    return response.status, str(found.get("url") or "") if isinstance(found, dict) else ""

            status, url = await call("getWebhookInfo")
            if status in (401, 404):
                _log.info("the token of a bot that has left is refused: its webhook is nobody's", bot_id=bot_id)
                return True
            if status == 200 and not is_ours(url, bot_id, secret, certificate):
                return True  # it has none, or somebody else's
            if status == 200:
                status, _ = await call("deleteWebhook", drop_pending_updates="false")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__} ({urlsplit(telegram).hostname})"
        _log.warning("the webhook of a bot that has left can't be taken away yet", bot_id=bot_id, reason=why)
        return False
    if status == 200:
        _log.info("the webhook of a bot that has left is taken away", bot_id=bot_id)
    else:
        _log.warning("the webhook of a bot that has left can't be taken away yet", bot_id=bot_id, status=status)
    return status == 200
