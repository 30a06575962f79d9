"""Simulated users: they write to bots of the sandbox, press buttons, and note every answer.

They know nothing of faults. Usable by itself: the sandbox's URL and the bots' ids by name are all they need.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from botctl.cli.chaos.account import Account, Message
from botctl.cli.chaos.scenario import Expectation, Say, Sends
from botctl.sandbox.client import BotEvent, SandboxClient, SandboxError

FIRST_CHAT = 1_000_000
FLOOD_CHAT = 1_900_000
BATCH = 500
"""Messages of a flood in one call."""
_LISTEN = 20.0
_AGAIN = 0.2

_CONTENT: Mapping[Sends, dict[str, Any]] = {
    Sends.PHOTO: {"photo": {}},
    Sends.VOICE: {"voice": {"duration": 3}},
    Sends.DOCUMENT: {"document": {"file_name": "notes.txt", "mime_type": "text/plain"}},
    Sends.STICKER: {"sticker": {"emoji": "👍"}},
    Sends.LOCATION: {"location": {"latitude": 52.52, "longitude": 13.4}},
    Sends.CONTACT: {"contact": {"phone_number": "+4930123456", "first_name": "Ada"}},
}


class Users:
    """Users of some bots; `account` is what they sent and got."""

    def __init__(
        self,
        telegram_url: str,
        bots: Mapping[str, int],
        says: Sequence[Say],
        *,
        chats: int = 5,
        rate: float = 2.0,
        seed: int = 1,
    ) -> None:
        self.account = Account()
        self._client = SandboxClient(telegram_url)
        self._bots = dict(bots)
        self._says = list(says)
        self._chats = chats
        self._rate = rate
        self._dice = random.Random(seed)  # a plan, no secret
        self._buttons: dict[tuple[int, int], tuple[int, str]] = {}
        self._albums: set[str] = set()
        self._floods = 0
        self._writing: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to listen and to write. The bots must be known to the sandbox."""
        self.listen()
        for name, bot_id in self._bots.items():
            dice = random.Random(self._dice.random())
            says = [say for say in self._says if not say.bots or name in say.bots]
            if says:
                self._writing.append(asyncio.create_task(self._write(bot_id, says, dice)))

    def listen(self) -> None:
        """Begin to listen only; for those who write by `say` themselves."""
        for bot_id in self._bots.values():
            self._listening.append(asyncio.create_task(self._listen(bot_id)))

    async def stop_writing(self) -> None:
        """Write no more; raises what went wrong while writing."""
        await _end(self._writing)

    async def close(self) -> None:
        """Listen no more; raises what went wrong while listening."""
        try:
            await _end(self._writing)
            await _end(self._listening)
        finally:
            await self._client.close()

    async def say(
        self, bot_id: int, chat_id: int, text: str, *, expects: Expectation = "reply", replies: int = 1, **content: Any
    ) -> Message:
        """Write once; `{mark}` and `{n}` in the text stand for the message's mark and number."""
        message = self.account.send(bot_id, chat_id, time.time(), expects, replies)
        written = _text(text, message) or None
        await self._client.say(bot_id, chat_id, written, _person(chat_id), **content)  # type: ignore[arg-type]
        return message

    async def flood(self, bot_id: int, count: int, text: str, expects: Expectation) -> None:
        """One user, not seen before, writes so many messages at once."""
        self._floods += 1
        chat_id = FLOOD_CHAT + self._floods
        for start in range(0, count, BATCH):
            batch = []
            for _ in range(start, min(count, start + BATCH)):
                message = self.account.send(bot_id, chat_id, time.time(), expects)
                message.flood = True
                batch.append((chat_id, _text(text, message)))
            await self._client.say_many(bot_id, batch)

    async def _write(self, bot_id: int, says: Sequence[Say], dice: random.Random) -> None:
        weights = [say.weight for say in says]
        await asyncio.sleep(dice.random() / self._rate)
        while True:
            (say,) = dice.choices(says, weights)
            await self._do(bot_id, FIRST_CHAT + dice.randrange(self._chats), say)
            await asyncio.sleep(dice.uniform(0.5, 1.5) / self._rate)

    async def _do(self, bot_id: int, chat_id: int, say: Say) -> None:
        if say.sends is Sends.PRESS:
            await self._press(bot_id, chat_id, say)
        elif say.sends is Sends.ALBUM:
            message = self.account.send(bot_id, chat_id, time.time(), say.expects, say.replies)
            items = [{"photo": {}, "text": _text(say.text, message)}, {"photo": {}}]
            await self._client.act(bot_id, "albums", chat_id=chat_id, user=_person(chat_id), items=items)
        else:
            content = _CONTENT.get(say.sends, {})
            await self.say(bot_id, chat_id, say.text, expects=say.expects, replies=say.replies, **content)

    async def _press(self, bot_id: int, chat_id: int, say: Say) -> None:
        button = self._buttons.pop((bot_id, chat_id), None)
        if button is None:
            return
        message = self.account.send(bot_id, chat_id, time.time(), say.expects, say.replies)
        message_id, data = button
        message.query_id = await self._client.press(bot_id, chat_id, message_id, data, _person(chat_id))

    async def _listen(self, bot_id: int) -> None:
        seen = 0
        while True:
            try:
                events = await self._client.events(bot_id, seen, _LISTEN)
            except (aiohttp.ClientError, SandboxError, TimeoutError):
                await asyncio.sleep(_AGAIN)  # the bot hasn't called yet, so the sandbox doesn't know it
                continue
            for event in events:
                seen = event.seq
                self._take(bot_id, event)

    def _take(self, bot_id: int, event: BotEvent) -> None:
        if event.type == "send" and event.chat_id is not None:
            body = event.raw["message"]
            album = body.get("media_group_id")
            if album is None or album not in self._albums:
                self.account.answer(bot_id, event.chat_id, event.text, event.at)
            if album is not None:
                self._albums.add(album)
            data = _button(body)
            if data is not None and event.message_id is not None:
                self._buttons[bot_id, event.chat_id] = (event.message_id, data)
        elif event.type == "callback_answer":
            self.account.acted(bot_id, None, str(event.raw["callback_query_id"]), event.at)
        elif event.type == "edit" and event.chat_id is not None:
            self.account.acted(bot_id, event.chat_id, "", event.at)


def _text(text: str, message: Message) -> str:
    return text.replace("{mark}", message.mark).replace("{n}", str(message.number))


def _person(chat_id: int) -> dict[str, Any]:
    return {"id": chat_id, "first_name": f"User {chat_id % 1000}"}


def _button(body: Mapping[str, Any]) -> str | None:
    """The data of the first button under a message that has data."""
    for row in body.get("reply_markup", {}).get("inline_keyboard", []):
        for button in row:
            if button.get("callback_data"):
                return str(button["callback_data"])
    return None


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    tasks.clear()
