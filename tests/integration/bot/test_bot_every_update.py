"""All kinds of updates, hostile ones too, through a real bot: handled once each, or a dead letter with a reason."""

from __future__ import annotations

import json
from typing import Any

from support.every_update import ADA, EVERY, GROUP, message

SEEN = "SELECT value FROM kept_data WHERE bot_id = {bot} AND kind = $1 AND owner = $2"


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: list[dict[str, Any]] = [
    {"message": {"chat": GROUP}},
    {"message": None},
    {"message": []},
    {},
    {"message": message(GROUP, text="\x00 and \ud800")},
    {"message": {**message(), "message_id": 10**30, "from": {**ADA, "id": 10**30}}},
    {"message": {**message(), "date": 10**30}},
    {"message": {**message(), "extra": deep(900)}},
    {"message": {**message(), "n": 10**400}},
    {"callback_query": {"id": "x", "from": {"id": "7"}}},
    {"nothing_known": {"chat": GROUP}},
    {"poll": {"id": "6"}},
]


async def test_each_is_handled_once_or_becomes_a_dead_letter_and_stops_nobody(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:recording")
    await bot.ready()
    for kind, content, _ in EVERY:
        await bot.telegram.inject(bot.bot_id, {kind: content})
    for odd in HOSTILE:
        await bot.telegram.inject(bot.bot_id, odd)
    album = [message(GROUP, media_group_id="a", caption=f"part {number}") for number in range(10)]
    for part in album:
        await bot.telegram.inject(bot.bot_id, {"message": part})
    total = len(EVERY) + len(HOSTILE) + len(album)
    await bot.settled(total)
    rows = await bot.rows("SELECT update_id, kind, state, last_error FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id")
    assert len(rows) == total
    dead = {row["update_id"]: row["last_error"] for row in rows if row["state"] == "dead"}
    assert all(row["state"] == "done" for row in rows[: len(EVERY)]), [tuple(row) for row in rows]
    assert all(row["state"] == "done" for row in rows[-len(album) :])
    assert all(dead.values())
    seen = json.loads(await bot.value(SEEN, "bot", ""))["seen"]["$dict"]
    assert sorted(number for number, _ in seen) == sorted({row["update_id"] for row in rows} - set(dead))
    texts = json.loads(await bot.value(SEEN, "chat", "-1001"))["texts"]
    assert [text for text in texts if text and text.startswith("part")] == [f"part {number}" for number in range(10)]
    assert await bot.stop() == 0
