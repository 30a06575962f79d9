"""Every kind of update gets into its lane, is parsed, and reaches a handler; hostile ones harm nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from telegram import Update
from telegram.ext import ApplicationBuilder, TypeHandler

from botctl.bot.receiving.incoming import read_incoming
from botctl.bot.receiving.updates import ALLOWED_UPDATES, read_batch
from botctl.storage.updates import LANES, kind_of, lane_of
from support.every_update import ADA, EVERY, GROUP, message

HUGE = 10**30


def body_of(*updates: Any) -> bytes:
    return json.dumps({"ok": True, "result": list(updates)}).encode()


def test_there_is_one_of_every_kind_and_each_kind_has_its_lane() -> None:
    assert {kind for kind, _, _ in EVERY} == set(ALLOWED_UPDATES) == set(LANES)


@pytest.mark.parametrize(
    ("kind", "content", "lane"), EVERY, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(EVERY)]
)
async def test_it_gets_into_its_lane_is_parsed_and_reaches_a_handler(
    kind: str, content: dict[str, Any], lane: str
) -> None:
    (row,) = read_batch(body_of({"update_id": 1, kind: content}), lambda: "t").rows
    assert (row.kind, row.lane, row.dead) == (kind, lane, None)
    raw = json.loads(row.payload)
    update = Update.de_json(raw, None)
    assert update is not None
    assert getattr(update, kind) is not None
    facts = read_incoming(row.kind, raw)
    assert facts.chat_id == (int(lane[5:]) if lane.startswith("chat:") and kind != "poll_answer" else None)
    if update.effective_user is not None and kind not in ("chat_boost", "managed_bot", "business_connection"):
        assert facts.user_id in (update.effective_user.id, None)
    seen: list[Update] = []

    async def see(update: Update, context: Any) -> None:
        seen.append(update)

    application = ApplicationBuilder().token("99:x").updater(None).job_queue(None).build()
    application._initialized = True
    application.add_handler(TypeHandler(Update, see))
    await application.process_update(update)
    assert seen == [update]


def test_an_unknown_kind_goes_by_whomever_it_names_and_a_known_one_before_it() -> None:
    assert lane_of("new_kind", {"chat": GROUP}) == "chat:-1001"
    assert lane_of("new_kind", {"user": ADA}) == "user:7"
    assert lane_of("new_kind", []) == "other"
    assert kind_of({"update_id": 1, "extra": 1, "message": message()}) == "message"
    assert kind_of({"update_id": 1}) == "unknown"


@pytest.mark.parametrize(
    "content",
    [
        None,
        7,
        "x",
        [],
        {"chat": None, "from": 7},
        {"chat": {"id": True}},
        {"chat": {"id": HUGE}, "from": {"id": -HUGE}, "message_id": HUGE, "text": "x"},
        {"chat": {"id": "7"}, "from": [], "message": {"chat": 3}},
        {"chat": GROUP, "from": {"id": HUGE}, "message_id": HUGE, "message_thread_id": HUGE, "is_topic_message": 1},
        {"chat": {"id": 7, "type": "private"}, "text": "\x00 \ud800", "\x00": "\udfff"},
        {"message": {"message": {"message": {"chat": GROUP}}}},
    ],
)
@pytest.mark.parametrize("kind", ["message", "callback_query", "poll_answer", "chat_member", "odd\x00kind", "k" * 500])
def test_whatever_it_holds_it_gets_a_row_with_numbers_that_the_database_takes(kind: str, content: Any) -> None:
    around = {"update_id": 2, "message": message()}
    batch = read_batch(body_of({"update_id": 1, kind: content}, around), lambda: "t")
    assert [row.update_id for row in batch.rows] == [1, 2]
    row = batch.rows[0]
    for text in (row.kind, row.lane, row.payload):
        assert "\x00" not in text
        assert "\\u0000" not in text
        text.encode()
    facts = read_incoming(row.kind, json.loads(row.payload))
    for number in (facts.chat_id, facts.user_id, facts.thread_id, row.sender):
        assert number is None or abs(number) < 2**63
    if facts.message is not None:
        assert abs(facts.message.get("message_id", 0)) < 2**63


def test_ids_that_jump_back_repeat_or_come_in_another_order_are_rows_in_the_order_they_came_in() -> None:
    ids = [900, 5, 5, 901, 3]
    batch = read_batch(body_of(*({"update_id": one, "message": message()} for one in ids)), lambda: "t")
    assert [row.update_id for row in batch.rows] == ids
    assert batch.next_offset == 902


def test_the_parts_of_an_album_are_one_lane_in_their_order() -> None:
    parts = [message(GROUP, media_group_id="a", caption=str(number)) for number in range(10)]
    batch = read_batch(body_of(*({"update_id": n, "message": part} for n, part in enumerate(parts))), lambda: "t")
    assert {row.lane for row in batch.rows} == {"chat:-1001"}
    assert [json.loads(row.payload)["message"]["caption"] for row in batch.rows] == [str(n) for n in range(10)]
