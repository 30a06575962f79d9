"""Keeps the ingress: opens it, tells it who may come in, lets old secrets go, and says what is wrong.

Lives in `control`'s own loop; the ingress itself in a thread (`house`). Without a [webhook] there is nothing to keep.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog
from prometheus_client.metrics_core import Metric
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ingress.door import Door, Resident
from botctl.control.ingress.house import House
from botctl.control.ingress.leaving import Leaving
from botctl.control.ingress.metrics import families
from botctl.control.ingress.secrets import address_of
from botctl.control.ports import FleetSight
from botctl.control.secrets.sealing import sealing_of
from botctl.control.watching.hearing import WebhookSight
from botctl.errors import BotctlError, VaultError
from botctl.fleet import BotSpec, Fleet
from botctl.fleet.model import Updates
from botctl.settings.webhook import WebhookSettings

_log = structlog.get_logger("botctl.control.ingress")

LOOK_EVERY = 0.25
RETRY = 1.0
GRACE = 60.0
"""Seconds for which an earlier secret is accepted after Telegram was first seen with the newest one: what is on its way
was sent before. Telegram waits a minute for an answer."""


class IngressKeeper:
    """`engine` makes a connection of the ingress's own. `wake` is called in the loop that `run` runs in.

    `telegram` is the root of the Bot API server; `told` gives what Telegram says of each bot's webhook, by bot_id.
    """

    def __init__(
        self,
        settings: WebhookSettings | None,
        keeper: FleetKeeper,
        engine: Callable[[], AsyncEngine],
        wake: Callable[[int], None],
        telegram: str,
        told: Callable[[], Mapping[int, WebhookSight]] = dict,
        *,
        grace: float = GRACE,
    ) -> None:
        self.settings = settings
        self.house: House | None = None
        self._keeper = keeper
        self._engine = engine
        self._wake = wake
        self._told = told
        self._grace = grace
        self._shown: dict[int, tuple[str, float]] = {}
        self._closed: str | None = None
        self._known: tuple[Fleet | None, int, bool] | None = None
        self._hooked: frozenset[int] = frozenset()
        self._leaving = Leaving(keeper, telegram)
        self._failing: dict[int, float] = {}

    @property
    def problem(self) -> str | None:
        """What is wrong with the ingress."""
        found = self._closed if self.house is None else self.house.problem
        return f"webhook: {found}" if found else None

    def metrics(self, names: Mapping[int, str]) -> Iterator[Metric]:
        """For `/metrics`; nothing without an ingress. `names` are the bots of the fleet, by bot_id."""
        return families(self.house.figures, self.house.room, names) if self.house is not None else iter(())

    async def run(self) -> None:
        """Until cancelled; then nothing is accepted any more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leaving.run())
            if self.settings is not None:
                group.create_task(self._keep_open(self.settings))

    async def _keep_open(self, settings: WebhookSettings) -> None:
        try:
            while True:
                if self.house is not None and not self.house.alive:
                    self.house.close()
                    self.house = None
                if self.house is None:
                    self._open(settings)
                self.refresh()
                await self._settle()
                await self._know_certificate()
                await asyncio.sleep(LOOK_EVERY if self.house is not None else RETRY)
        finally:
            if self.house is not None:
                await asyncio.to_thread(self.house.close)

    def refresh(self) -> None:
        """Let in who may come in now. Called before bots are told anything, so that none is called in vain."""
        keeper, house = self._keeper, self.house
        fleet, vault = keeper.fleet, keeper.vault
        if fleet is not None:
            self._hooked = frozenset(bot.bot_id for bot in fleet.bots if bot.updates is Updates.WEBHOOK)
        if house is None or fleet is None or self.settings is None:
            return
        known = (fleet, vault.webhooks.changed, vault.loaded)
        if self._known is not None and known[0] is self._known[0] and known[1:] == self._known[1:]:
            return
        self._known = known
        house.door = Door(self.settings.path, self._residents(fleet.bots)) if vault.loaded else None

    def renew(self) -> None:
        """The same, whatever is known: data keys may have changed."""
        self._known = None
        self.refresh()

    def seen(self, sight: FleetSight) -> FleetSight:
        """With who floods the bots that don't ask for their updates themselves, as if they told of it."""
        house = self.house
        if house is None or not self._hooked:
            return sight
        bots = tuple(
            # One and the same minute, whatever incarnations it has seen.
            dataclasses.replace(bot, gauges={**bot.gauges, **house.gauges(bot.bot_id)}, incarnation=0)
            if bot.bot_id in self._hooked
            else bot
            for bot in sight.bots
        )
        return dataclasses.replace(sight, bots=bots)

    def _open(self, settings: WebhookSettings) -> None:
        loop = asyncio.get_running_loop()

        def wake(bots: Sequence[int]) -> None:
            loop.call_soon_threadsafe(self._wake_all, bots)

        try:
            house = House(settings, self._engine, wake)
        except BotctlError as error:
            if self._closed != error.message:
                _log.error("the ingress can't be opened", reason=error.message, hint=error.hint)
            self._closed = error.message
            return
        self._closed, self._known = None, None
        self.house = house
        self.refresh()
        house.start()
        _log.info("the ingress is open", listen=settings.listen, public_url=settings.public_url)

    def _wake_all(self, bots: Sequence[int]) -> None:
        for bot_id in bots:
            self._wake(bot_id)

    def _residents(self, bots: Sequence[BotSpec]) -> Mapping[int, Resident]:
        """Also those that poll now and had a webhook before: what is on its way is theirs."""
        found: dict[int, Resident] = {}
        for bot in bots:
            secret = self._keeper.vault.webhooks.get(bot.bot_id)
            if secret is None:
                continue
            try:
                sealing = sealing_of(self._keeper.vault, bot)
            except VaultError as error:
                _log.error("a bot can't be sent updates", bot=bot.name, reason=error.message)
                continue
            found[bot.bot_id] = Resident(bot.bot_id, secret, sealing)
        return found

    async def _settle(self) -> None:
        """Earlier secrets of bots whose newest one Telegram has had for a while are nobody's any more."""
        house, webhooks = self.house, self._keeper.vault.webhooks
        if house is None or not self._keeper.vault.loaded:
            return
        now = time.monotonic()
        for bot_id, secret in list(webhooks.everybody.items()):
            if not secret.earlier:
                continue
            self._look_up(bot_id, secret.current, now)
            seen = (house.figures.newest_seen.get(bot_id), self._shown.get(bot_id))
            since = min((one[1] for one in seen if one is not None and one[0] == secret.current), default=now)
            if now - since < self._grace:
                continue
            if now < self._failing.get(bot_id, 0.0):
                continue
            try:
                await self._keeper.settle_webhook(bot_id)
            except BotctlError as error:
                self._failing[bot_id] = now + 10.0
                _log.warning("an earlier secret of a webhook is still accepted", bot_id=bot_id, reason=error.message)
            else:
                _log.info("Telegram uses the new secret; earlier ones are refused", bot_id=bot_id)

    def _look_up(self, bot_id: int, word: str, now: float) -> None:
        """Whether Telegram says that it has this secret: an idle bot is never called with it."""
        target, told = self._keeper.webhook, self._told().get(bot_id)
        if target is None or told is None or self._shown.get(bot_id, ("", 0.0))[0] == word:
            return
        if told.url == address_of(target.url, bot_id, word, target.certificate):
            self._shown[bot_id] = (word, now)

    async def _know_certificate(self) -> None:
        house = self.house
        if house is not None and house.certificate is not None and self.settings is not None:
            house.certificate.context()  # looks at its files
            if self.settings.upload_certificate:
                await self._keeper.know_certificate(house.certificate.pem)
