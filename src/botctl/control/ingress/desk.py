"""What the API asks about webhooks: the ingress, what Telegram says of each bot's, and the way to us from outside."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

import aiohttp
from pydantic import Field

from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ingress.keeper import IngressKeeper
from botctl.control.pulse import Pulse
from botctl.control.views import CommandBody, View
from botctl.control.watching.hearing import WebhookSight, tls
from botctl.errors import UsageError
from botctl.fleet.model import Updates

PROBE_TIMEOUT = 10.0


class BotWebhookView(View):
    """One bot with a webhook. `stored` are updates since `control` began; what Telegram says is up to a minute old.

    `pending` at Telegram, None when nobody knows; `error` of its last try, as long as updates wait.
    """

    name: str
    bot_id: int
    stored: int = 0
    stored_age_s: float | None = None
    pending: int | None = None
    error: str = ""
    secret_set_at: float | None = None
    earlier_secrets: int = 0


class WebhookBody(View):
    """The ingress; without one, `listen` is empty. `reachable`: None when it was not tried."""

    listen: str = ""
    public_url: str = ""
    problem: str | None = None
    certificate_expires_at: float | None = None
    reachable: bool | None = None
    unreachable_because: str = ""
    stored: int = 0
    repeated: int = 0
    refused: dict[str, int] = Field(default_factory=dict)
    connections_pushed_out: int = 0
    bots: list[BotWebhookView] = Field(default_factory=list)


class WebhookDesk:
    """`told` is what Telegram last said, by bot_id. `clock` is monotonic."""

    def __init__(
        self,
        ingress: IngressKeeper,
        keeper: FleetKeeper,
        pulse: Pulse,
        told: Mapping[int, WebhookSight],
        clock: Callable[[], float],
    ) -> None:
        self._ingress = ingress
        self._keeper = keeper
        self._pulse = pulse
        self._told = told
        self._clock = clock

    async def tell(self, *, probe: bool) -> WebhookBody:
        """The ingress and every bot with a webhook; with `probe`, the way through the public address is tried."""
        settings, house = self._ingress.settings, self._ingress.house
        if settings is None:
            return WebhookBody()
        body = WebhookBody(listen=settings.listen, public_url=settings.public_url, problem=self._ingress.problem)
        if house is not None:
            figures = house.figures
            body.stored, body.repeated = figures.stored.total(), figures.repeated.total()
            body.refused, body.connections_pushed_out = dict(figures.refused), figures.pushed_out
            if house.certificate is not None:
                body.certificate_expires_at = house.certificate.expires_at
        body.bots = self._bots()
        if probe:
            body.unreachable_because = await self._probe()
            body.reachable = not body.unreachable_because
        return body

    async def rotate(self, bot: str) -> CommandBody:
        """A new secret for one bot. Raises NoSuchBotError, UsageError, VaultError, DatabaseAwayError."""
        if self._ingress.settings is None:
            raise UsageError("there is no [webhook] in the daemon's settings")
        await self._pulse.within(self._keeper.renew_webhook(bot))
        return CommandBody(
            message=f"{bot} has a new webhook secret, and tells Telegram when it runs; the old one is refused a minute"
            " after Telegram has begun to use the new one"
        )

    def _bots(self) -> list[BotWebhookView]:
        found: list[BotWebhookView] = []
        house, now = self._ingress.house, self._clock()
        for bot in self._keeper.fleet.bots if self._keeper.fleet is not None else ():
            if bot.updates is not Updates.WEBHOOK:
                continue
            secret, told = self._keeper.vault.webhooks.get(bot.bot_id), self._told.get(bot.bot_id)
            view = BotWebhookView(name=bot.name, bot_id=bot.bot_id)
            if house is not None:
                view.stored = house.figures.stored[bot.bot_id]
                at = house.figures.last_stored.get(bot.bot_id)
                view.stored_age_s = round(now - at, 1) if at is not None else None
            if told is not None:
                view.pending, view.error = told.pending, told.error
            if secret is not None:
                view.secret_set_at, view.earlier_secrets = secret.set_at or None, len(secret.earlier)
            found.append(view)
        return found

    async def _probe(self) -> str:
        """Why the ingress can't be reached by its public address; empty when it can."""
        settings, house = self._ingress.settings, self._ingress.house
        if settings is None or house is None or not house.probe_path:
            return "the ingress is not open"
        url = settings.public_url + house.probe_path
        context = tls() if url.startswith("https:") else None
        if context is not None and settings.upload_certificate and house.certificate is not None:
            # As Telegram does with a certificate that it was given.
            context = ssl.create_default_context(cadata=house.certificate.pem)
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
        try:
            async with (
                asyncio.timeout(PROBE_TIMEOUT),
                aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status == 204:
                    return ""
                return f"somebody else answers there, or the path is changed on the way: HTTP {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError) as error:
            return f"{type(error).__name__}: {error}"[:200] if str(error) else type(error).__name__
