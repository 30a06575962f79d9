"""A token that Telegram stops accepting while the bot works: nothing goes on, and the bot is told to end.

What was to be sent then has surely not been; it stays planned, and goes out when the token has been corrected.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

import structlog
from telegram.error import InvalidToken

from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.bot.token")


class BadTokenError(BotctlError):
    """Telegram doesn't know the bot's token (401 or 404); no restart helps."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"Telegram refuses the token: {detail}",
            hint="Take the bot's token from @BotFather, put it into the fleet file, then run: botctl apply",
        )


class TokenRefusal:
    """Joins those who meet a refusal to the one who ends the bot."""

    def __init__(self) -> None:
        self._met = asyncio.Event()
        self._detail = ""

    async def refused(self, error: InvalidToken) -> NoReturn:
        """Tell, and wait for the end: whoever has met it must not go on to what comes next."""
        if not self._met.is_set():
            _log.critical("telegram refuses the token")
            self._detail = str(error)
            self._met.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing sets this future's result")

    async def watch(self) -> NoReturn:
        """Raises BadTokenError as soon as a refusal is met."""
        await self._met.wait()
        raise BadTokenError(self._detail)


def means_the_token(error: InvalidToken, method: str) -> bool:
    """Whether the token is refused: PTB has the same exception for a method that does not exist (404)."""
    return "not found" not in str(error).lower() or (str(error).lower() == "not found" and method == "sendMessage")
