"""What becomes of a send's row before and after its call: begun, not begun after all, skipped, failed.

Handlers' calls and deferred answers go through it alike; that a send was made is `SentRecorder`'s. Each step is a
statement of its own, and each uncertain case is counted.
"""

from __future__ import annotations

from telegram.error import InvalidToken, TelegramError

from botctl.bot.database import Database
from botctl.bot.health import Health
from botctl.bot.journal_rules import describe_error
from botctl.bot.token_refusal import TokenRefusal, means_the_token
from botctl.storage.sends import SendRow, Sends


class SendStates:
    """Rows are named by their cause and number. Waits while the database is away."""

    def __init__(self, database: Database, sends: Sends, health: Health, token_refusal: TokenRefusal) -> None:
        self._database = database
        self._sends = sends
        self._health = health
        self._token_refusal = token_refusal

    async def plan(self, row: SendRow) -> None:
        """A new row, in the state it says."""
        await self._database.statement(lambda connection: self._sends.plan(connection, [row]))

    async def begin(self, cause: str, n: int, *, uncertain: bool) -> None:
        """The call is about to be made; `uncertain`: it may have been made before."""
        if uncertain:
            self._health.count("sends_uncertain")
        await self._database.statement(lambda connection: self._sends.begin(connection, cause, n, uncertain=uncertain))

    async def unbegin(self, cause: str, n: int) -> None:
        """The call has surely had no effect."""
        await self._database.statement(lambda connection: self._sends.unbegin(connection, cause, n))

    async def skip(self, cause: str, n: int, reason: str) -> None:
        """The call may have had an effect, and is not made again."""
        self._health.count("sends_uncertain")
        await self._database.statement(lambda connection: self._sends.skipped(connection, cause, n, reason))

    async def refuse(self, cause: str, n: int, method: str, error: TelegramError) -> str:
        """Telegram refuses the call for good; the error in words. Doesn't return when it is the token it refuses."""
        if isinstance(error, InvalidToken) and means_the_token(error, method):
            await self.unbegin(cause, n)
            await self._token_refusal.refused(error)
        text = describe_error(error)
        await self._database.statement(lambda connection: self._sends.failed(connection, cause, n, text))
        return text
