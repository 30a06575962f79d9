"""The users of the load: in each chat one who writes all the time, up to three messages ahead of the answers.

They know nothing of kills and faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict

import aiohttp

from botctl.sandbox.client import BotEvent, SandboxClient, SandboxError
from chaos.kills.messages import SHARES, Kind, Message, Sight, sight_of
from support.stack import Stack

FIRST_CHAT = 1000
PASSED_CHAT = 900_000
"""Where a bot writes when it hears of another bot's user; plus that bot's index."""

MOST_OPEN = 3
"""Unanswered messages of a chat at which its user waits, so that what is written follows what can be answered."""

SORRY = "Sorry, the model is away."


class Load:
    """`chats` of them, spread over the bots; `ids` and `names` in the order of their indices.

    `every`: seconds between two messages of a chat, on average.
    """

    def __init__(self, stack: Stack, ids: list[int], names: list[str], chats: int, seed: int, every: float) -> None:
        self.messages: dict[int, Message] = {}
        self.order: dict[tuple[int, int], list[Sight]] = defaultdict(list)
        """Parts by bot and chat, as they came."""
        self.apologies: list[BotEvent] = []
        self.unknown: list[str] = []
        """Texts that answer nothing that was asked."""
        self._bot_of_apology: list[int] = []
        self._client: SandboxClient = stack.sandbox()
        self._ids, self._names = ids, names
        self._chats = [(number % len(ids), FIRST_CHAT + number) for number in range(chats)]
        self._dice = random.Random(seed)
        self._every = every
        self._turns: dict[tuple[int, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []
        self._pressing: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._open: Counter[tuple[int, int]] = Counter()
        """By bot and chat that are written to: messages without an answer."""

    async def start(self) -> None:
        """Begin to listen and to write."""
        for bot, bot_id in enumerate(self._ids):
            for other in range(len(self._ids)):
                await self._client.set_chat(bot_id, PASSED_CHAT + other)
            self._listening.append(asyncio.create_task(self._listen(bot)))
        for bot, chat in self._chats:
            self._tasks.append(asyncio.create_task(self._write(bot, chat, random.Random(self._dice.random()))))

    async def stop_writing(self) -> None:
        """Write no more; raises what went wrong while writing."""
        self._over.set()
        await asyncio.gather(*self._tasks)
        if self._pressing:
            await asyncio.gather(*self._pressing)

    async def close(self) -> None:
        """Listen no more; raises what went wrong while listening."""
        try:
            await _end(self._tasks)
            await _end(self._listening)
        finally:
            await self._client.close()

    def waiting(self) -> list[Message]:
        """Messages without all of their answer."""
        return [one for one in self.messages.values() if one.answered is None]

    def apologies_of(self) -> list[tuple[int, BotEvent]]:
        """The assistant's excuses, with the index of the bot."""
        return list(zip(self._bot_of_apology, self.apologies, strict=True))

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _write(self, bot: int, chat: int, dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(0, self._every))
        kinds, weights = list(SHARES), list(SHARES.values())
        while not self._over.is_set():
            if self._open[bot, chat] >= MOST_OPEN:
                await asyncio.sleep(0.1)
                continue
            await self._say(bot, chat, dice.choices(kinds, weights)[0], dice)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), dice.uniform(0.5, 1.5) * self._every)

    async def _say(self, bot: int, chat: int, kind: Kind, dice: random.Random) -> None:
        async with self._turns[bot, chat]:
            message = self._new(kind, bot, chat)
            text = f"{kind.value[0]} {message.mark}"
            if kind is Kind.PASS:
                other = dice.choice([one for one in range(len(self._ids)) if one != bot] or [bot])
                message.answers_in = (other, PASSED_CHAT + bot)
                text = f"pass {self._names[other]} {PASSED_CHAT + bot} {message.mark}"
            elif kind is Kind.ASK:
                text = f"please repeat {message.mark}"
            said = await self._client.say(self._ids[bot], chat, text, {"id": chat, "first_name": f"U{chat}"})
            message.update_id = said.update_id

    async def _press(self, bot: int, chat: int, message_id: int) -> None:
        async with self._turns[bot, chat]:
            message = self._new(Kind.PRESS, bot, chat)
            await self._client.press(self._ids[bot], chat, message_id, message.mark, {"id": chat})

    def _new(self, kind: Kind, bot: int, chat: int) -> Message:
        number = len(self.messages) + 1
        self._open[bot, chat] += 1
        made = self.messages[number] = Message(number, kind, bot, chat, (bot, chat), time.time())
        return made

    # --- listening -------------------------------------------------------------------------------------------------

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
                if event.type in ("send", "edit"):
                    self._take(bot, event)

    def _take(self, bot: int, event: BotEvent) -> None:
        if event.chat_id is None:
            return
        if event.text == SORRY:
            self.apologies.append(event)
            self._bot_of_apology.append(bot)
            self._open[bot, event.chat_id] -= 1
            return
        sight = sight_of(event.text)
        message = self.messages.get(sight.number) if sight is not None else None
        if sight is None or message is None or message.answers_in != (bot, event.chat_id):
            self.unknown.append(f"bot {bot}, chat {event.chat_id}: {event.text[:100]}")
            return
        times = message.seen[sight.part]
        if event.type == "edit" and times:
            return  # the same text once more: nobody sees it
        open_before = message.answered is None
        times.append(event.at)
        if open_before and message.answered is not None:
            self._open[message.bot, message.chat] -= 1
        self.order[bot, event.chat_id].append(sight)
        first = len(times) == 1
        if message.kind is Kind.BUTTON and first and event.message_id is not None and not self._over.is_set():
            task = asyncio.create_task(self._press(bot, event.chat_id, event.message_id))
            self._pressing.add(task)
            task.add_done_callback(self._pressing.discard)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    tasks.clear()
