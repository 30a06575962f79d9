"""The webhook secrets of all bots, as they lie sealed in the vault's table. What is in memory is what was committed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.ingress.secrets import WebhookSecret
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.errors import VaultError
from botctl.security.vault import Cipher
from botctl.storage import secrets
from botctl.storage.secrets import SealedSecret

_log = structlog.get_logger("botctl.control.ingress")

TABLE = "bot_secrets"
NAME = "webhook"


class WebhookSecrets:
    """`cipher` gives a bot's own, and raises VaultError when it has none. `now`: seconds since the epoch."""

    def __init__(self, cipher: Callable[[int], Cipher], now: Callable[[], float] = time.time) -> None:
        self._cipher = cipher
        self._now = now
        self._known: dict[int, WebhookSecret] = {}
        self.changed = 0
        """Grows with every change."""

    def get(self, bot_id: int) -> WebhookSecret | None:
        """The secret of a bot that ever had its updates by webhook."""
        return self._known.get(bot_id)

    @property
    def everybody(self) -> Mapping[int, WebhookSecret]:
        """All of them, by bot_id."""
        return self._known

    @property
    def note(self) -> dict[int, tuple[str, ...]]:
        """For the next `control`, which may have to do without the database for a while."""
        return {bot_id: secret.words for bot_id, secret in self._known.items()}

    def resume(self, note: Mapping[int, tuple[str, ...]]) -> None:
        """Take up the last one's `note`, until `open` knows better."""
        self._known = {bot_id: WebhookSecret(words[0], tuple(words[1:])) for bot_id, words in note.items() if words}
        self.changed += 1

    def open(self, sealed: Iterable[SealedSecret]) -> None:
        """Take over what was stored. One that can't be opened is told, and replaced at the next `provide`."""
        found: dict[int, WebhookSecret] = {}
        for one in sealed:
            if one.name != NAME:
                continue
            try:
                plain = self._cipher(one.bot_id).open(TABLE, f"sealed:{NAME}", one.sealed)
                found[one.bot_id] = WebhookSecret.decoded(plain)
            except VaultError as error:
                _log.error("a webhook's secret can't be opened", bot_id=one.bot_id, reason=error.message)
        self._known = found
        self.changed += 1

    async def provide(self, engine: AsyncEngine, bots: Collection[tuple[int, str]]) -> dict[str, str]:
        """Make a secret for those of these (id, name) that lack one; who could not be given one, by name, and why."""
        failed: dict[str, str] = {}
        for bot_id, name in bots:
            if bot_id in self._known:
                continue
            try:
                await self._save(engine, bot_id, WebhookSecret.new(self._now()))
            except VaultError as error:
                failed[name] = f"updates: webhook, and its secret can't be sealed: {error.message}"
            except DATABASE_TROUBLE as error:
                failed[name] = database_reason(error)
        return failed

    async def renew(self, engine: AsyncEngine, bot_ids: Collection[int], *, waits: bool = False) -> None:
        """A new secret for those of these bots that have one. `waits`: not before Telegram uses the last new one.

        Raises VaultError, and what the database raises.
        """
        for bot_id in bot_ids:
            known = self._known.get(bot_id)
            if known is not None and not (waits and known.earlier):
                await self._save(engine, bot_id, known.renewed(self._now()))

    async def settle(self, engine: AsyncEngine, bot_id: int) -> None:
        """Telegram uses the newest secret of this bot. Raises as `renew` does."""
        known = self._known.get(bot_id)
        if known is not None and known.earlier:
            await self._save(engine, bot_id, known.settled())

    async def keep_way(self, engine: AsyncEngine, bot_id: int, token: str, proxy: str) -> None:
        """Keep what it takes to take a bot's webhook away, or with no token that it is gone. Raises as `renew` does."""
        known = self._known.get(bot_id)
        if known is not None:
            await self._save(engine, bot_id, dataclasses.replace(known, token=token, proxy=proxy))

    async def _save(self, engine: AsyncEngine, bot_id: int, secret: WebhookSecret) -> None:
        cipher = self._cipher(bot_id)
        sealed = cipher.seal(TABLE, f"sealed:{NAME}", secret.encoded())
        async with engine.begin() as connection:
            await store(connection, bot_id, cipher.newest, sealed)
        self._known[bot_id] = secret
        self.changed += 1


async def store(connection: AsyncConnection, bot_id: int, key_id: int, sealed: bytes) -> None:
    """Keep a sealed secret."""
    await secrets.save_secret(connection, SealedSecret(bot_id, NAME, key_id, sealed))
