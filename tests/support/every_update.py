"""A realistic update of every kind that Telegram sends, after its documentation."""

from __future__ import annotations

from typing import Any

ADA = {"id": 7, "is_bot": False, "first_name": "Ada", "username": "ada", "language_code": "en"}
BOT = {"id": 99, "is_bot": True, "first_name": "Nora", "username": "nora_bot"}
PRIVATE = {"id": 7, "type": "private", "first_name": "Ada"}
GROUP = {"id": -1001, "type": "supergroup", "title": "Tea", "is_forum": True}
CHANNEL = {"id": -1002, "type": "channel", "title": "News"}
DATE = 1_790_000_000


def message(chat: dict[str, Any] = PRIVATE, **content: Any) -> dict[str, Any]:
    """A message; in a channel nobody has sent it."""
    sender = {} if chat is CHANNEL else {"from": ADA}
    return {"message_id": 5, "date": DATE, "chat": chat, **sender, **(content or {"text": "hello"})}


MEMBER = {"status": "member", "user": ADA}
CHANGE = {
    "chat": GROUP,
    "from": ADA,
    "date": DATE,
    "old_chat_member": {"status": "left", "user": ADA},
    "new_chat_member": MEMBER,
}
PHOTO = [{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}]
POLL = {
    "id": "6",
    "question": "Tea?",
    "options": [{"persistent_id": "1", "text": "yes", "voter_count": 1}],
    "total_voter_count": 1,
    "is_closed": False,
    "is_anonymous": True,
    "type": "regular",
    "allows_multiple_answers": False,
    "allows_revoting": False,
    "members_only": False,
}
BOOST = {"boost_id": "b", "add_date": DATE, "expiration_date": DATE + 9, "source": {"source": "premium", "user": ADA}}
PRESS = {"id": "q", "from": ADA, "chat_instance": "c", "data": "yes"}
ADDRESS = {
    "country_code": "IT",
    "state": "",
    "city": "Rome",
    "street_line1": "1",
    "street_line2": "",
    "post_code": "00100",
}

EVERY: list[tuple[str, dict[str, Any], str]] = [
    ("message", message(), "chat:7"),
    ("message", message(GROUP, text="/start", message_thread_id=3, is_topic_message=True), "chat:-1001"),
    ("message", message(GROUP, photo=PHOTO, media_group_id="album", caption="one"), "chat:-1001"),
    ("message", message(GROUP, new_chat_members=[ADA]), "chat:-1001"),
    ("message", message(GROUP, migrate_to_chat_id=-1009), "chat:-1001"),
    ("edited_message", message(edit_date=DATE, text="hello!"), "chat:7"),
    ("channel_post", message(CHANNEL), "chat:-1002"),
    ("edited_channel_post", message(CHANNEL, edit_date=DATE, text="x"), "chat:-1002"),
    (
        "business_connection",
        {"id": "c", "user": ADA, "user_chat_id": 7, "date": DATE, "is_enabled": True, "can_reply": True},
        "user:7",
    ),
    ("business_message", message(business_connection_id="c", text="x"), "chat:7"),
    ("edited_business_message", message(business_connection_id="c", edit_date=DATE, text="y"), "chat:7"),
    ("deleted_business_messages", {"business_connection_id": "c", "chat": PRIVATE, "message_ids": [5]}, "chat:7"),
    ("guest_message", message(GROUP), "chat:-1001"),
    (
        "message_reaction",
        {
            "chat": GROUP,
            "message_id": 5,
            "user": ADA,
            "date": DATE,
            "old_reaction": [],
            "new_reaction": [{"type": "emoji", "emoji": "\N{THUMBS UP SIGN}"}],
        },
        "chat:-1001",
    ),
    (
        "message_reaction_count",
        {
            "chat": CHANNEL,
            "message_id": 5,
            "date": DATE,
            "reactions": [{"type": {"type": "paid"}, "total_count": 2}],
        },
        "chat:-1002",
    ),
    ("inline_query", {"id": "i", "from": ADA, "query": "tea", "offset": "", "chat_type": "sender"}, "user:7"),
    ("chosen_inline_result", {"result_id": "r", "from": ADA, "query": "tea", "inline_message_id": "m"}, "user:7"),
    ("callback_query", {**PRESS, "message": message(GROUP)}, "chat:-1001"),
    ("callback_query", {**PRESS, "message": {"message_id": 5, "date": 0, "chat": GROUP}}, "chat:-1001"),
    ("callback_query", {**PRESS, "inline_message_id": "m"}, "user:7"),
    ("callback_query", {"id": "q", "from": ADA, "chat_instance": "c", "game_short_name": "g"}, "user:7"),
    ("shipping_query", {"id": "s", "from": ADA, "invoice_payload": "p", "shipping_address": ADDRESS}, "user:7"),
    (
        "pre_checkout_query",
        {"id": "p", "from": ADA, "currency": "EUR", "total_amount": 5, "invoice_payload": "p"},
        "user:7",
    ),
    ("purchased_paid_media", {"from": ADA, "paid_media_payload": "p"}, "user:7"),
    ("poll", POLL, "other"),
    ("poll_answer", {"poll_id": "6", "user": ADA, "option_ids": [0], "option_persistent_ids": ["1"]}, "user:7"),
    (
        "poll_answer",
        {"poll_id": "6", "voter_chat": GROUP, "option_ids": [0], "option_persistent_ids": ["1"]},
        "chat:-1001",
    ),
    ("my_chat_member", {**CHANGE, "new_chat_member": {"status": "left", "user": BOT}}, "chat:-1001"),
    ("chat_member", CHANGE, "chat:-1001"),
    ("chat_join_request", {"chat": GROUP, "from": ADA, "user_chat_id": 7, "date": DATE}, "chat:-1001"),
    ("chat_boost", {"chat": CHANNEL, "boost": BOOST}, "chat:-1002"),
    (
        "removed_chat_boost",
        {"chat": CHANNEL, "boost_id": "b", "remove_date": DATE, "source": {"source": "premium", "user": ADA}},
        "chat:-1002",
    ),
    ("managed_bot", {"user": ADA, "bot": BOT}, "user:7"),
]
"""Kind, content, and the lane it belongs to."""
