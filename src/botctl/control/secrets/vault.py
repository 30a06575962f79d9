"""The vault of the control process: the bots' data keys, unwrapped, and the secrets sealed with them.

What is in memory here is what the database holds: one `control` writes. A bot that has never had a key is made one; a
bot whose newest key can't be unwrapped or is gone is refused, never given another in its place: that would hide what is
lost.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.ingress.secret_store import WebhookSecrets
from botctl.control.secrets.rotated_token import RotatedToken
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.errors import VaultError
from botctl.fleet import BotSpec, Fleet
from botctl.fleet.model import Updates
from botctl.security import master_keys
from botctl.security.master_keys import MasterKeys, Source
from botctl.security.vault import Cipher, DataKey, unwrap, wrap
from botctl.storage import secrets
from botctl.storage.secrets import SealedSecret, WrappedKey

_log = structlog.get_logger("botctl.control.secrets.vault")

TABLE = "bot_secrets"
TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Unwrappable:
    """A data key that none of the master keys at hand opens; `reason` names bot and key."""

    bot_id: int
    key_id: int
    master_version: int
    reason: str


class Vault:
    """`masters` None: there is no vault, bots are given no keys, and none of them may ask for sealed messages.

    `held` are the newest keys the supervisor holds, by bot_id. Methods that take a connection or an engine may raise
    what the database raises.
    """

    def __init__(
        self,
        masters: MasterKeys | None = None,
        source: Source = Source.FILE,
        held: Mapping[int, int] | None = None,
    ) -> None:
        self.masters = masters
        self.source = source
        self.loaded = masters is None
        self._held = dict(held or {})
        self._keys: dict[int, tuple[DataKey, ...]] = {}
        self._faults: dict[int, str] = {}
        self._tokens: dict[int, RotatedToken] = {}
        self.webhooks = WebhookSecrets(self.cipher)

    @property
    def note(self) -> str:
        """Master keys that the next `control` can't get from anywhere but us; empty when it can."""
        return "" if self.masters is None or self.source is Source.FILE else self.masters.text()

    def resume(self, note: str) -> None:
        """Take up the last one's `note`. Raises VaultError when it can't be read."""
        if note and self.source is not Source.FILE:
            self.masters = master_keys.parse(note)

    async def load(self, connection: AsyncConnection) -> None:
        """Read and unwrap all keys, and open the tokens."""
        if self.masters is None:
            return
        keys: dict[int, list[DataKey]] = {}
        faults: dict[int, str] = {}
        for row in await secrets.read_keys(connection):
            try:
                key = unwrap(self.masters, row.bot_id, row.key_id, row.wrapped)
            except VaultError as error:
                _log.error("a data key can't be unwrapped", bot_id=row.bot_id, key=row.key_id, reason=error.message)
                faults[row.bot_id] = error.message  # of the newest one, if it is one
            else:
                keys.setdefault(row.bot_id, []).insert(0, key)
                faults.pop(row.bot_id, None)
        for bot_id, newest in (await secrets.read_newest(connection)).items():
            known = keys.get(bot_id)
            if bot_id not in faults and (known is None or known[0].key_id < newest):
                faults[bot_id] = f"its data key {newest} is gone from bot_keys: what it has sealed can't be opened"
                _log.error("a data key is gone", bot_id=bot_id, key=newest)
        self._keys = {bot_id: tuple(found) for bot_id, found in keys.items()}
        self._faults = faults
        sealed = await secrets.read_secrets(connection)
        self._tokens = self._open_tokens(sealed)
        self.webhooks.open(sealed)
        self.loaded = True

    # --- data keys -------------------------------------------------------------------------------------------------

    def keys(self, bot_id: int) -> tuple[DataKey, ...]:
        """All data keys of a bot, the newest first."""
        return self._keys.get(bot_id, ())

    def words(self, bot_id: int) -> tuple[tuple[int, str], ...]:
        """The same as they travel: ids, and keys in base64."""
        return tuple((key.key_id, base64.b64encode(key.material).decode()) for key in self.keys(bot_id))

    def ready(self, bot_id: int) -> bool:
        """Whether the bot can be given its keys, or the supervisor has them already."""
        return self.masters is None or bot_id in self._held or (bot_id in self._keys and bot_id not in self._faults)

    def lacks(self, bot_id: int) -> bool:
        """Whether the bot has never had a key."""
        return self.masters is not None and bot_id not in self._keys and bot_id not in self._faults

    def cipher(self, bot_id: int) -> Cipher:
        """What seals and opens for this bot. Raises VaultError without a vault, and for a bot without keys."""
        _, known = self._opened(bot_id)
        return Cipher(bot_id, known)

    def handed_over(self, bot_ids: Iterable[int]) -> None:
        """The supervisor has been given the keys of these bots."""
        self._held |= {bot_id: self._keys[bot_id][0].key_id for bot_id in bot_ids if bot_id in self._keys}

    def owed(self, bot_ids: Iterable[int]) -> bool:
        """Whether the supervisor lacks the newest key of one of these bots."""
        return any(self._keys[bot][0].key_id != self._held.get(bot, 0) for bot in bot_ids if bot in self._keys)

    async def provide(self, engine: AsyncEngine, bots: Iterable[BotSpec]) -> dict[str, str]:
        """Make a key and a webhook's secret for those that lack them; who may not start, by name, and why."""
        if self.masters is None:
            why = {bot.name: _wish_for_a_key(bot) for bot in bots}
            return {name: f"{wish}, and there is no master key" for name, wish in why.items() if wish}
        bots = list(bots)
        failed = await self._provide_keys(engine, bots)
        wanting = [(bot.bot_id, bot.name) for bot in bots if bot.updates is Updates.WEBHOOK and bot.name not in failed]
        return failed | await self.webhooks.provide(engine, wanting)

    async def _provide_keys(self, engine: AsyncEngine, bots: Sequence[BotSpec]) -> dict[str, str]:
        assert self.masters is not None
        fresh = [DataKey.new(bot.bot_id, 1) for bot in bots if self.lacks(bot.bot_id)]
        failed = {bot.name: self._faults[bot.bot_id] for bot in bots if bot.bot_id in self._faults}
        try:
            if fresh:
                async with engine.begin() as connection:
                    await secrets.add_keys(connection, [self._wrapped(self.masters, key) for key in fresh])
        except DATABASE_TROUBLE as error:
            reason = database_reason(error)
            return failed | {bot.name: reason for bot in bots if self.lacks(bot.bot_id)}
        self._keys |= {key.bot_id: (key,) for key in fresh}
        return failed

    async def renew(self, engine: AsyncEngine, bot_id: int) -> DataKey:
        """A new data key for a bot, with which its secrets are sealed at once; the old ones go on opening.

        Raises VaultError without a vault, and for a bot whose keys can't be opened.
        """
        masters, known = self._opened(bot_id)
        key = DataKey.new(bot_id, known[0].key_id + 1)
        cipher = Cipher(bot_id, [key, *known])
        async with engine.begin() as connection:
            await secrets.add_keys(connection, [self._wrapped(masters, key)])
            await secrets.retire_keys(connection, bot_id, key.key_id)
            for secret in await secrets.read_secrets(connection, bot_id):
                plain = cipher.open(TABLE, f"sealed:{secret.name}", secret.sealed)
                sealed = cipher.seal(TABLE, f"sealed:{secret.name}", plain)
                await secrets.reseal_secret(connection, SealedSecret(bot_id, secret.name, key.key_id, sealed))
        self._keys[bot_id] = (key, *known)
        return key

    async def rewrap(self, engine: AsyncEngine, batch: int) -> int:
        """Wrap with the current master key what is wrapped with another, at most `batch` keys; how many there were.

        Those that can't be unwrapped are passed over (`left_over`).
        """
        assert self.masters is not None
        async with engine.begin() as connection:
            old, _ = self.left_over(await secrets.read_keys(connection))
            by_version: dict[int, list[WrappedKey]] = {}
            for version, key in old[:batch]:
                by_version.setdefault(version, []).append(self._wrapped(self.masters, key))
            for version, rows in by_version.items():
                await secrets.rewrap(connection, rows, version)
        return len(old[:batch])

    def left_over(self, rows: Sequence[WrappedKey]) -> tuple[list[tuple[int, DataKey]], list[Unwrappable]]:
        """Of these, the keys that are not wrapped with the current master key, each with its version; and those that
        can't be unwrapped.
        """
        assert self.masters is not None
        found: list[tuple[int, DataKey]] = []
        bad: list[Unwrappable] = []
        for row in rows:
            if row.master_version == self.masters.current.version:
                continue
            try:
                found.append((row.master_version, unwrap(self.masters, row.bot_id, row.key_id, row.wrapped)))
            except VaultError as error:
                bad.append(Unwrappable(row.bot_id, row.key_id, row.master_version, error.message))
        return found, bad

    # --- tokens ----------------------------------------------------------------------------------------------------

    def token(self, bot_id: int) -> RotatedToken | None:
        """The token this bot was given at runtime."""
        return self._tokens.get(bot_id)

    def effective(self, fleet: Fleet) -> Fleet:
        """The fleet with rotated tokens, wherever the file still has one that was replaced."""
        if not self._tokens:
            return fleet
        return fleet.model_copy(update={"bots": tuple(self._effective(bot) for bot in fleet.bots)})

    def with_token(self, bot: BotSpec, token: str) -> tuple[BotSpec, RotatedToken]:
        """The bot with this token, and what has to be kept for it to stay so."""
        rotated = RotatedToken.instead_of(bot.token.get_secret_value(), token, self._tokens.get(bot.bot_id))
        return bot.model_copy(update={"token": SecretStr(token)}), rotated

    async def save_token(self, connection: AsyncConnection, bot_id: int, rotated: RotatedToken) -> None:
        """Keep a token; `took` it when this is committed. Raises VaultError without a vault."""
        _, known = self._opened(bot_id)
        cipher = Cipher(bot_id, known)
        sealed = cipher.seal(TABLE, f"sealed:{TOKEN}", rotated.encoded())
        await secrets.save_secret(connection, SealedSecret(bot_id, TOKEN, cipher.newest, sealed))

    def took(self, bot_id: int, rotated: RotatedToken) -> None:
        """The token is kept."""
        self._tokens[bot_id] = rotated

    def _effective(self, bot: BotSpec) -> BotSpec:
        rotated = self._tokens.get(bot.bot_id)
        if rotated is None or not rotated.replaces(bot.token.get_secret_value()):
            return bot
        return bot.model_copy(update={"token": SecretStr(rotated.token)})

    def _open_tokens(self, sealed: Sequence[SealedSecret]) -> dict[int, RotatedToken]:
        found: dict[int, RotatedToken] = {}
        for secret in sealed:
            if secret.name != TOKEN:
                continue
            try:
                cipher = Cipher(secret.bot_id, self.keys(secret.bot_id))
                found[secret.bot_id] = RotatedToken.decoded(
                    cipher.open(TABLE, f"sealed:{TOKEN}", secret.sealed), secret.set_at
                )
            except VaultError as error:
                _log.error("a rotated token can't be opened", bot_id=secret.bot_id, reason=error.message)
                self._faults[secret.bot_id] = f"its rotated token can't be opened: {error.message}"
        return found

    def _opened(self, bot_id: int) -> tuple[MasterKeys, tuple[DataKey, ...]]:
        if self.masters is None:
            raise VaultError("there is no master key", hint="Start the daemon with `botctl start`: it makes one.")
        if bot_id in self._faults:
            raise VaultError(self._faults[bot_id], hint="Restore the row of bot_keys from a backup.")
        if bot_id not in self._keys:
            raise VaultError(f"bot {bot_id} has no data key yet", hint="See `botctl status`.")
        return self.masters, self._keys[bot_id]

    @staticmethod
    def _wrapped(masters: MasterKeys, key: DataKey) -> WrappedKey:
        current = masters.current
        return WrappedKey(key.bot_id, key.key_id, current.version, current.check, wrap(current, key))


def _wish_for_a_key(bot: BotSpec) -> str:
    """What of its settings needs a data key."""
    if bot.encrypt_messages:
        return "encrypt_messages"
    return "updates: webhook" if bot.updates is Updates.WEBHOOK else ""
