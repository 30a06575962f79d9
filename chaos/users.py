"""Simulated users of the harmed fleet: they write to every bot about once in 1.5 seconds, and attack when told to.

The account of what they sent and got is that of `botctl chaos`.
"""

from __future__ import annotations

import time

from botctl.cli.chaos import users
from botctl.cli.chaos.account import Message
from botctl.cli.chaos.scenario import Say
from botctl.sandbox.client import BotEvent
from support.stack import Stack

CHATS = 6
RATE = 1 / 1.5
SAYS = (Say(text="note {mark}", weight=3.0), Say(text="please repeat {mark}"))
"""A quarter goes to the assistant instead of a handler."""

ATTACKER = 99


class Users(users.Users):
    """Users of all bots; `ids` are the bots' ids in the order of their indices."""

    def __init__(self, stack: Stack, ids: list[int], seed: int) -> None:
        bots = {str(index): bot_id for index, bot_id in enumerate(ids)}
        super().__init__(stack.urls["telegram"], bots, SAYS, chats=CHATS, rate=RATE, seed=seed)
        self._ids = ids
        self.apologies = 0

    async def attack(self, bot: int, kind: str, *, again: bool) -> Message:
        """Have a bot misbehave; with `again` also those that come after it, so that no answer is to be expected."""
        not_after = 4e9 if again else time.time()
        text = f"/attack {kind} {not_after:.6f} {{mark}}"
        return await self.say(self._ids[bot], ATTACKER, text, expects="maybe" if again else "reply")

    def waiting(self, bot: int | None = None, *, before: float = float("inf")) -> list[Message]:
        """Messages that were written before that moment and have no answer yet."""
        return self.account.waiting(None if bot is None else self._ids[bot], before=before)

    def _take(self, bot_id: int, event: BotEvent) -> None:
        self.apologies += event.type == "send" and event.text.startswith("Sorry")
        super()._take(bot_id, event)
