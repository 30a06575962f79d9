"""Simulated users: they write to every bot about once a second and note when, and how often, they are answered.

They know nothing of faults. Each message carries a mark of its own, which its answer repeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp

from botctl.sandbox.client import BotEvent, SandboxClient, SandboxError
from support.stack import Stack

_MARK = re.compile(r"\bm(\d+)x\b")
CHATS = 3
ASSISTANT_SHARE = 0.25
"""Of the messages that go to the assistant instead of a handler."""

ATTACKER = 99


@dataclass
class Message:
    """One message of a user. Times are seconds since the epoch. `buried`: no answer is to be expected."""

    number: int
    bot: int
    chat: int
    at: float
    buried: bool = False
    answers: list[float] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """What stands in it and in its answer, and in the arguments of processes that it leads to."""
        return f"m{self.number}x"

    @property
    def latency(self) -> float | None:
        """Seconds to the first answer."""
        return self.answers[0] - self.at if self.answers else None


class Users:
    """Users of all bots; `ids` are the bots' ids in the order of their indices."""

    def __init__(self, stack: Stack, ids: list[int], seed: int) -> None:
        self.messages: dict[int, Message] = {}
        self.apologies: Counter[int] = Counter()
        self.unknown: list[str] = []
        """Texts that answer nothing that was asked."""
        self._by_bot: dict[int, list[Message]] = defaultdict(list)
        self._stack = stack
        self._ids = ids
        self._dice = random.Random(seed)
        self._client: SandboxClient = stack.sandbox()
        self._sending: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to write."""
        for bot in range(len(self._ids)):
            self._listening.append(asyncio.create_task(self._listen(bot)))
            self._sending.append(asyncio.create_task(self._write(bot, random.Random(self._dice.random()))))

    async def stop_writing(self) -> None:
        """Write no more; raises what went wrong while writing."""
        await _end(self._sending)

    async def close(self) -> None:
        """Listen no more; raises what went wrong while listening."""
        try:
            await _end(self._sending)
            await _end(self._listening)
        finally:
            await self._client.close()

    async def say(self, bot: int, chat: int, text: str) -> Message:
        """Write `text`, in which `@` stands for the mark."""
        number = len(self.messages) + 1
        message = self.messages[number] = Message(number, bot, chat, time.time())
        self._by_bot[bot].append(message)
        await self._client.say(
            self._ids[bot], chat, text.replace("@", message.mark), {"id": chat, "first_name": f"U{chat}"}
        )
        return message

    async def attack(self, bot: int, kind: str, *, again: bool) -> Message:
        """Have a bot misbehave; with `again` also those that come after it."""
        not_after = 4e9 if again else time.time()
        return await self.say(bot, ATTACKER, f"/attack {kind} {not_after:.6f} @")

    def waiting(self, bot: int | None = None, *, before: float = float("inf")) -> list[Message]:
        """Messages that were written before that moment and have no answer yet."""
        found: Iterable[Message] = self.messages.values() if bot is None else self._by_bot[bot]
        return [one for one in found if not one.answers and not one.buried and one.at <= before]

    def of(self, bot: int) -> list[Message]:
        """All messages to one bot, oldest first."""
        return self._by_bot[bot]

    async def _write(self, bot: int, dice: random.Random) -> None:
        await asyncio.sleep(dice.random())
        while True:
            chat = 1000 + dice.randrange(CHATS)
            if dice.random() < ASSISTANT_SHARE:
                await self.say(bot, chat + CHATS, "please repeat @")
            else:
                await self.say(bot, chat, "note @")
            await asyncio.sleep(dice.uniform(1.0, 2.0))

    async def _listen(self, bot: int) -> None:
        seen = 0
        while True:
            try:
                events = await self._client.events(self._ids[bot], seen, 20.0)
            except (aiohttp.ClientError, SandboxError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            for event in events:
                seen = event.seq
                if event.type == "send":
                    self._take(bot, event)

    def _take(self, bot: int, event: BotEvent) -> None:
        match = _MARK.search(event.text)
        message = self.messages.get(int(match[1])) if match is not None else None
        if message is None and event.text.startswith("Sorry"):
            self.apologies[bot] += 1
            message = next((one for one in self.waiting(bot) if one.chat == event.chat_id), None)
        if message is None or message.bot != bot or message.chat != event.chat_id:
            self.unknown.append(f"bot {bot}, chat {event.chat_id}: {event.text[:100]}")
        else:
            message.answers.append(event.at)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    tasks.clear()
