"""Asks Telegram about each wanted bot once in a while: how many updates wait for it? Tells the supervisor who is deaf.

Never takes an update, never shows a token: only counts are asked for, with the bot's own token and through its proxy.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import aiohttp
import certifi
import structlog

from botctl.control.ports import FleetSight, SupervisorPort
from botctl.control.watching.deafness import Ears, Look
from botctl.fleet import BotSpec
from botctl.fleet.model import Updates

_log = structlog.get_logger("botctl.control.watching.hearing")

INTERVAL = 60.0
"""Seconds between two questions about the same bot."""

PATIENCE = 45.0
"""Longer than the 35 s after which a bot itself gives a dead poll up; shorter than the interval, so that the second of
two probes can tell."""

TIMEOUT = 10.0
AT_ONCE = 4
FRESH = 180.0
"""Seconds for which Telegram's last failure counts: it tries again every minute or two."""
_LONGEST_TICK = 5.0
_LONGEST_ANSWER = 64 * 1024
_LONGEST_HOLD = 3600.0


@dataclass(frozen=True, slots=True)
class WebhookSight:
    """What Telegram says of a bot's webhook; `error` of its last try, as long as updates wait and it is fresh.

    `url` is where it sends updates to now.
    """

    pending: int
    error: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    pending: int
    webhook: str
    error: str = ""


class HearingProbe:
    """`pending` is what Telegram last said by bot_id; of a bot that could not be asked about, nothing."""

    def __init__(
        self,
        bots: Callable[[], Sequence[BotSpec]],
        supervisor: SupervisorPort,
        base_url: str,
        *,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
        timeout: float = TIMEOUT,
    ) -> None:
        self.pending: dict[int, int] = {}
        self.webhooks: dict[int, WebhookSight] = {}
        """Of bots that are to be sent their updates; they are never called deaf, for they don't ask."""
        self._bots = bots
        self._supervisor = supervisor
        self._base_url = base_url.rstrip("/")
        self._interval = interval
        self._timeout = timeout
        self._tick = min(_LONGEST_TICK, interval / 12)
        self._ears = Ears(patience)
        self._asked_at: dict[int, float] = {}
        self._held_until: dict[int, float] = {}
        self._failing: set[int] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def undelivered(self) -> str | None:
        """Bots that Telegram can't deliver updates to, and what it says of it."""
        failing = {bot_id: sight for bot_id, sight in self.webhooks.items() if sight.error}
        if not failing:
            return None
        names = {bot.bot_id: bot.name for bot in self._bots()}
        (bot_id, first), *others = failing.items()
        more = f", and to {len(others)} more" if others else ""
        waiting = sum(sight.pending for sight in failing.values())
        who = names.get(bot_id, str(bot_id))
        return f"webhook: Telegram can't deliver updates to {who}{more} ({first.error}); {waiting} wait there"

    async def run(self) -> None:
        """Probe until cancelled, spread evenly over the interval."""
        connector = aiohttp.TCPConnector(ssl=tls() if self._base_url.startswith("https:") else True)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
            due, last = 0.0, time.monotonic()
            while True:
                await asyncio.sleep(self._tick)
                now = time.monotonic()
                bots = {bot.bot_id: bot for bot in self._bots() if bot.enabled}
                due = min(due + len(bots) * (now - last) / self._interval, float(len(bots)))
                last = now
                chosen = self._next(bots, int(due))
                due -= len(chosen)
                await self._round(session, bots, chosen)

    def _next(self, bots: dict[int, BotSpec], count: int) -> list[BotSpec]:
        """Those that were not asked about for the longest time."""
        for known in (self.pending, self._asked_at, self._held_until, self.webhooks):
            for bot_id in known.keys() - bots.keys():
                del known[bot_id]
        self._failing &= bots.keys()
        self._ears.keep_only(bots.keys())
        order = sorted(bots, key=lambda bot_id: (self._asked_at.get(bot_id, 0.0), bot_id))
        return [bots[bot_id] for bot_id in order[:count]]

    async def _round(self, session: aiohttp.ClientSession, bots: dict[int, BotSpec], chosen: list[BotSpec]) -> None:
        found = await asyncio.gather(*(self._ask(session, bot) for bot in chosen))
        answers = {bot.bot_id: answer for bot, answer in zip(chosen, found, strict=True) if answer is not None}
        if not answers and not self._ears.suspicious:
            return
        try:
            # Asked for after the answers, so that no commit between the two is overlooked.
            sight = await self._supervisor.sight()
        except TimeoutError:
            return
        self._judge(sight, answers, bots, time.monotonic())

    def _judge(self, sight: FleetSight, answers: dict[int, _Answer], bots: dict[int, BotSpec], now: float) -> None:
        for bot in sight.bots:
            if bot.bot_id not in bots:
                continue
            answer = answers.get(bot.bot_id)
            if bots[bot.bot_id].updates is Updates.WEBHOOK:
                continue
            if answer is None:
                self._ears.glance(bot.bot_id, bot.state, bot.incarnation)
                continue
            age = bot.gauges.get("last_commit_age_s")
            committed_at = None
            if age is not None and bot.heartbeat_age is not None:
                committed_at = now - bot.heartbeat_age - age
            look = Look(
                at=answer.at,
                pending=answer.pending,
                state=bot.state,
                incarnation=bot.incarnation,
                committed_at=committed_at,
                webhook=answer.webhook,
                held=bot.gauges.get("poll_held_s", 0.0) > 0,
            )
            word = self._ears.look(bot.bot_id, look)
            if word is None:
                continue
            if word.deaf:
                _log.warning("a bot is deaf", bot=bot.name, reason=word.reason)
            self._supervisor.hear(bot.bot_id, word.deaf, word.reason)

    async def _ask(self, session: aiohttp.ClientSession, bot: BotSpec) -> _Answer | None:
        async with self._slots:
            self._asked_at[bot.bot_id] = time.monotonic()
            if self._asked_at[bot.bot_id] < self._held_until.get(bot.bot_id, 0.0):
                return None
            token = quote(bot.token.get_secret_value(), safe=":")
            url = f"{self._base_url}/bot{token}/getWebhookInfo"
            why = ""
            answer: _Answer | None = None
            try:
                async with (
                    asyncio.timeout(self._timeout),
                    session.get(url, proxy=bot.proxy, allow_redirects=False) as response,
                ):
                    body = json.loads(await response.content.read(_LONGEST_ANSWER))
                    if response.status == 200:
                        result = body["result"]
                        answer = _Answer(
                            time.monotonic(),
                            int(result["pending_update_count"]),
                            str(result.get("url") or ""),
                            _error(result, time.time()),
                        )
                    elif response.status == 429:
                        hold = min(float(body["parameters"]["retry_after"]), _LONGEST_HOLD)
                        self._held_until[bot.bot_id] = time.monotonic() + hold
                    elif response.status not in (401, 404):  # a token that is refused is the bot's own to tell
                        why = f"HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError) as error:
                why = type(error).__name__  # its text may hold the URL, and the URL holds the token
        self._note(bot, answer, why)
        return answer

    def _note(self, bot: BotSpec, answer: _Answer | None, why: str) -> None:
        if answer is None:
            self.pending.pop(bot.bot_id, None)
        else:
            self.pending[bot.bot_id] = answer.pending
            if bot.updates is Updates.WEBHOOK:
                self.webhooks[bot.bot_id] = WebhookSight(answer.pending, answer.error, answer.webhook)
            else:
                self.webhooks.pop(bot.bot_id, None)
            self._failing.discard(bot.bot_id)
        if why and bot.bot_id not in self._failing:
            self._failing.add(bot.bot_id)
            _log.warning("Telegram can't be asked whether a bot is deaf", bot=bot.name, reason=why)


def _error(result: dict[str, Any], now: float) -> str:
    """Telegram's last try to deliver, if it failed lately and updates wait."""
    at, message = result.get("last_error_date"), result.get("last_error_message")
    if not result["pending_update_count"] or not isinstance(at, int) or not isinstance(message, str):
        return ""
    return message[:200] if now - at < FRESH else ""


def options_of(options: dict[str, Any]) -> dict[str, float]:
    """`interval`, `patience` and `timeout` from `ControlConfig.options["hearing"]`, as far as they are given."""
    given = options.get("hearing", {})
    found: dict[str, float] = {}
    for name in ("interval", "patience", "timeout"):
        with suppress(KeyError, TypeError, ValueError):
            found[name] = float(given[name])
    return found


@cache
def tls() -> ssl.SSLContext:
    """Trusts the system's certificate authorities, or certifi's where the system has none; as the bots do."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context
