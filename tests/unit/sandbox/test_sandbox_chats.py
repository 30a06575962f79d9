"""Chats: drafts that pass, members as the Bot API shows them; webhooks: what an answer asks for."""

from __future__ import annotations

import pytest

from botctl.sandbox.telegram.chats import DRAFT_LIFE, Chat, Draft, chat_body
from botctl.sandbox.telegram.memberships import Member
from botctl.sandbox.telegram.updates import Update
from botctl.sandbox.telegram.webhook_parts import chat_of, lane_of, read_call

ADA = {"id": 5, "first_name": "Ada"}


def test_a_draft_is_shown_for_thirty_seconds_after_its_last_change() -> None:
    chat = Chat(5, chat_body(5, None, ADA))
    chat.drafts = {1: Draft(1, "old", [], 100.0, 0, None), 2: Draft(2, "new", [], 110.0, 3, None)}
    assert set(chat.live_drafts(100.0 + DRAFT_LIFE - 0.1)) == {1, 2}
    assert set(chat.live_drafts(100.0 + DRAFT_LIFE)) == {2}
    assert chat.live_drafts(200.0) == {}


@pytest.mark.parametrize(
    ("status", "present", "shown"),
    [
        ("creator", True, {"is_anonymous": False}),
        ("administrator", True, {"can_pin_messages": True, "can_promote_members": False}),
        ("member", True, {}),
        ("restricted", True, {"can_send_messages": False, "until_date": 7}),
        ("left", False, {}),
        ("kicked", False, {"until_date": 7}),
    ],
)
def test_a_member_is_shown_with_the_rights_of_its_status(status: str, present: bool, shown: dict[str, object]) -> None:
    member = Member(ADA, status, 7, {"can_promote_members": False})
    assert member.present is present
    assert shown.items() <= member.as_json().items()


@pytest.mark.parametrize(
    ("answer", "kind", "called"),
    [
        (b'{"method": "sendMessage", "chat_id": 5}', "application/json", "sendMessage"),
        (b"method=sendMessage&chat_id=5", "application/x-www-form-urlencoded", "sendMessage"),
        (b'{"method": "setWebhook", "url": ""}', "application/json", None),
        (b'{"method": "getMe"}', "application/json", None),
        (b'{"ok": true}', "application/json", None),
        (b"<html>", "text/html", None),
        (b"", "application/json", None),
        (b"[1]", "application/json", None),
    ],
)
def test_an_answer_of_a_webhook_may_call_a_method_that_sends(answer: bytes, kind: str, called: str | None) -> None:
    found = read_call(answer, kind)
    assert (found["method"] if found is not None else None) == called


def test_updates_about_no_chat_wait_for_nobody() -> None:
    message = Update(1, {"message": {"chat": {"id": -5}}}, 0.0)
    pressed = Update(2, {"callback_query": {"message": {"chat": {"id": -5}}}}, 0.0)
    inline, poll = Update(3, {"inline_query": {"id": "1"}}, 0.0), Update(4, {"poll": {"id": "1"}}, 0.0)
    assert [chat_of(one) for one in (message, pressed, inline, poll)] == [-5, -5, None, None]
    assert lane_of(message) == lane_of(pressed)
    assert len({lane_of(message), lane_of(inline), lane_of(poll)}) == 3
