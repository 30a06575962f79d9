"""A running bot handles what others put into its inbox: at once when it is woken."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.runtime import messages
from botctl.storage.inbox import Inbox, NewRow


def update(number: int, text: str) -> NewRow:
    user = {"id": 100, "is_bot": False, "first_name": "Ada"}
    message = {"message_id": number, "date": 1, "chat": {"id": 100, "type": "private"}, "from": user, "text": text}
    payload = json.dumps({"update_id": number, "message": message})
    return NewRow(f"update:{number}", number, "message", "chat:100", payload, "t")


async def test_a_woken_bot_answers_what_control_has_stored(bot: Any, engine: AsyncEngine) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("first")
    assert await bot.answers(1) == ["echo first"]
    async with engine.begin() as control:
        await Inbox(bot.bot_id).add(control, [update(900_000_001, "stored"), update(900_000_002, "too")])
    bot.send(messages.Wake())
    assert await bot.answers(3) == ["echo first", "echo stored", "echo too"]
    await bot.settled(3)
    assert await bot.stop() == 0
