"""Everything the Telegram emulator knows: the bots by token, faults, calls, limits. One world for one server."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from botctl.sandbox.calls import CallLog
from botctl.sandbox.faults.engine import FaultEngine
from botctl.sandbox.telegram.bots import Bot, bot_id_of
from botctl.sandbox.telegram.errors import not_found, unauthorized
from botctl.sandbox.telegram.flood import FloodControl
from botctl.sandbox.telegram.updates import UpdateQueue


@dataclass(slots=True)
class World:
    """The state behind one emulator."""

    any_bot: bool = False
    """Take up a bot at the first sight of a well-formed token."""
    any_chat: bool = False
    """Let bots write to people who never wrote to them; the real server answers "chat not found"."""
    strict_polling: bool = False
    """Hold polls that repeat an offset within 3 s, and delay a second 409 within 3 s, as the real server does."""
    callback_lifetime: float = 30.0
    """Seconds a pressed button may be answered."""
    https_webhooks: bool = False
    """Refuse webhooks without TLS on this machine too, as the real server does."""
    webhook_pace: float = 1.0
    """Length of a second between a webhook's attempts."""
    flood: FloodControl = field(default_factory=FloodControl)
    faults: FaultEngine = field(default_factory=FaultEngine)
    calls: CallLog = field(default_factory=CallLog)
    bots: dict[int, Bot] = field(default_factory=dict)
    _by_token: dict[str, Bot] = field(default_factory=dict)

    def register(self, token: str, *, first_name: str | None = None, username: str | None = None) -> Bot:
        """Make a bot, or rename one. A new token of a known bot replaces the old one, which is 401 from then on.

        Raises ValueError on a malformed token.
        """
        bot_id = bot_id_of(token)
        if bot_id is None:
            raise ValueError("a token is the bot's number, a colon, and at least 3 of A-Z a-z 0-9 _ -")
        bot = self.bots.get(bot_id)
        if bot is None:
            queue = UpdateQueue(random.randrange(10_000_000, 900_000_000), strict=self.strict_polling)
            bot = Bot(bot_id, token, first_name or f"Bot {bot_id}", username or f"sandbox_{bot_id}_bot", queue)
            self.bots[bot_id] = bot
        else:
            del self._by_token[bot.token]
            bot.token = token
            bot.first_name = first_name or bot.first_name
            bot.username = username or bot.username
        self._by_token[token] = bot
        return bot

    def remove(self, bot_id: int) -> bool:
        """Forget a bot; its token is 401 from now on, and a poll it holds ends with that."""
        bot = self.bots.pop(bot_id, None)
        if bot is None:
            return False
        del self._by_token[bot.token]
        bot.updates.end_poll(unauthorized())
        if bot.webhook is not None:
            bot.webhook.stop()
        return True

    def close(self) -> None:
        """Stop everything that runs by itself: webhooks."""
        for bot in self.bots.values():
            if bot.webhook is not None:
                bot.webhook.stop()

    def authorize(self, token: str) -> Bot:
        """The bot of a token; 401 for an unknown one, 404 for what can be none."""
        bot = self._by_token.get(token)
        if bot is not None:
            return bot
        bot_id = bot_id_of(token)
        if bot_id is None:
            raise not_found()
        if not self.any_bot or bot_id in self.bots:
            raise unauthorized()
        return self.register(token)
