"""What the API asks about keys and secrets, done. Answers tell versions, numbers and times, and no secret.

The one exception is a new master key that the operator has to put where master keys are kept.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.secrets.master_rotation import MasterRotation
from botctl.control.secrets.telegram_check import owner_of
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
from botctl.control.views import BotSecretsView, CommandBody, MasterBody, SecretsBody
from botctl.errors import BotctlError, NoSuchBotError, RefusedError, UsageError
from botctl.fleet import BotSpec
from botctl.fleet.model import TOKEN_FORMAT
from botctl.storage import secrets
from botctl.storage.secrets import WrappedKey


class VaultDesk:
    """`telegram` is the root of the Bot API server."""

    def __init__(
        self,
        engine: AsyncEngine,
        keeper: FleetKeeper,
        rotation: MasterRotation,
        rollouts: RolloutKeeper,
        telegram: str,
    ) -> None:
        self._engine = engine
        self._keeper = keeper
        self._rotation = rotation
        self._rollouts = rollouts
        self._telegram = telegram

    @property
    def rotated(self) -> frozenset[int]:
        """Bots that run with a token other than the fleet file's."""
        bots = self._keeper.fleet.bots if self._keeper.fleet is not None else ()
        return frozenset(bot.bot_id for bot in bots if self._is_rotated(bot))

    async def status(self) -> SecretsBody:
        """Which keys there are, and of what age."""
        try:
            async with self._engine.connect() as connection:
                rows = await secrets.read_keys(connection)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        masters = self._keeper.vault.masters
        current = masters.current.version if masters is not None else None
        keys: dict[int, list[WrappedKey]] = {}
        for row in rows:
            keys.setdefault(row.bot_id, []).append(row)
        bots = self._keeper.fleet.bots if self._keeper.fleet is not None else ()
        return SecretsBody(
            source=self._rotation.source.value,
            place=self._rotation.place,
            version=current,
            held=list(masters.versions) if masters is not None else [],
            data_keys=len(rows),
            to_rewrap=sum(row.master_version != current for row in rows),
            bots=[self._view(bot, keys.get(bot.bot_id, [])) for bot in bots],
        )

    async def rotate_master(self, given: str) -> MasterBody:
        """A new master key, or the end of a rotation that was begun."""
        done = await self._rotation.rotate(given)
        return MasterBody(version=done.version, rewrapped=done.rewrapped, todo=done.todo, entry=done.entry)

    async def rotate_bot(self, name: str) -> CommandBody:
        """A new data key for one bot. Raises NoSuchBotError."""
        self._bot(name)
        number = await self._keeper.renew_key(name)
        return CommandBody(message=f"{name} seals with data key {number} now; what it has sealed before stays readable")

    async def rotate_credentials(self, name: str) -> CommandBody:
        """New passwords for PostgreSQL and Redis for one bot, or without a name for all. Raises NoSuchBotError."""
        fleet = self._keeper.fleet
        bots = [self._bot(name)] if name else list(fleet.bots) if fleet is not None else []
        wanted = {bot.bot_id: bot.name for bot in bots if bot.bot_id not in self._keeper.shut}
        if name and not wanted:
            raise RefusedError(f"{name} is in quarantine", hint="`botctl release` gives it new credentials.")
        if failed := await self._keeper.renew_credentials(wanted):
            told = "; ".join(f"{one}: {why}" for one, why in sorted(failed.items()))
            raise BotctlError(f"not all have got new passwords yet; it is tried on: {told}")
        done = f"{name} has" if name else f"{len(wanted)} of {len(bots)} bots have"
        return CommandBody(message=f"{done} new passwords for the database and Redis")

    async def rotate_token(self, name: str, token: str) -> CommandBody:
        """A new token for one bot, which is restarted with it. Raises NoSuchBotError, UsageError, RefusedError."""
        bot = self._bot(name)
        match = TOKEN_FORMAT.fullmatch(token)
        if match is None:
            raise UsageError("this is no bot token; @BotFather gives one of the form 123456789:AA…")
        if int(match["bot_id"]) != bot.bot_id:
            raise RefusedError(
                f"this token is of bot {match['bot_id']}, and {name} is bot {bot.bot_id}",
                hint="A token of another bot makes another bot: give it a place of its own in the fleet file.",
            )
        if token == bot.token.get_secret_value():
            raise RefusedError(f"{name} has this token already", hint="@BotFather gives a new one with /revoke.")
        self._rollouts.refuse_beside("a change of a token")
        owner = await owner_of(token, self._telegram, proxy=bot.proxy)
        if owner != bot.bot_id:
            raise RefusedError(f"Telegram says that this token is of bot {owner}, and {name} is bot {bot.bot_id}")
        await self._keeper.replace_token(name, token)
        return CommandBody(
            message=f"{name} {self._goes_on(bot)} the new token, which is kept sealed in the database; the fleet file's"
            " is not used as long as it is the one that was replaced"
        )

    def _goes_on(self, bot: BotSpec) -> str:
        if bot.bot_id in self._keeper.shut:
            return "is shut away; when it is released, it starts with"
        return "is restarted with" if bot.enabled else "is not enabled; when it is, it starts with"

    def _view(self, bot: BotSpec, keys: list[WrappedKey]) -> BotSecretsView:
        rotated = self._keeper.vault.token(bot.bot_id)
        newest = keys[-1] if keys else None
        return BotSecretsView(
            name=bot.name,
            bot_id=bot.bot_id,
            key=newest.key_id if newest is not None else None,
            key_since=newest.created_at if newest is not None else None,
            keys=len(keys),
            master_versions=sorted({key.master_version for key in keys}),
            encrypts_messages=bot.encrypt_messages,
            token="rotated" if self._is_rotated(bot) else "file",
            token_since=rotated.set_at or None if rotated is not None and self._is_rotated(bot) else None,
        )

    def _is_rotated(self, bot: BotSpec) -> bool:
        """Whether the token it has is one that was given at runtime, and not the file's."""
        rotated = self._keeper.vault.token(bot.bot_id)
        return rotated is not None and rotated.token == bot.token.get_secret_value()

    def _bot(self, name: str) -> BotSpec:
        bot = self._keeper.bot(name)
        if bot is None:
            names = ", ".join(one.name for one in self._keeper.fleet.bots) if self._keeper.fleet is not None else ""
            raise NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {names}." if names else None)
        return bot
