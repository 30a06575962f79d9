"""Every method of python-telegram-bot is classified, by hand; a new version that brings one fails here."""

from __future__ import annotations

import ast
import inspect

import pytest
import telegram
from telegram.error import BadRequest, Forbidden
from telegram.ext import ExtBot

from botctl.bot.sending.methods import (
    METHODS,
    Kind,
    is_done_all_the_same,
    is_numbered,
    is_spending,
    items_of,
    kind_of,
    makes_messages,
)

_POSTING = ("_post", "_do_post", "_send_message")


def methods_of_ptb() -> set[str]:
    """The Bot API's names in the source of python-telegram-bot: the first argument of whatever posts."""
    found: set[str] = set()
    for source in (inspect.getsource(telegram.Bot), inspect.getsource(ExtBot)):
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            named = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "endpoint")]
            if node.func.attr in _POSTING:
                found |= {one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_each_method_is_classified_and_none_is_made_up() -> None:
    known = methods_of_ptb()
    assert len(known) > 150
    assert known - set(METHODS) == set(), "classify these in botctl/bot/sending/methods.py"
    assert set(METHODS) - known == set()


def test_each_public_method_of_the_bot_is_in_the_source_that_was_read() -> None:
    names = {name.replace("_", "").lower() for name in dir(telegram.Bot) if not name.startswith("_")}
    assert {method.lower() for method in METHODS} <= names


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("sendMessage", Kind.NUMBERED),
        ("SENDMESSAGE", Kind.NUMBERED),
        ("editMessageText", Kind.NUMBERED),
        ("deleteMessage", Kind.NUMBERED),
        ("setMessageReaction", Kind.NUMBERED),
        ("createChatInviteLink", Kind.NUMBERED),
        ("pinChatMessage", Kind.NUMBERED),
        ("banChatMember", Kind.NUMBERED),
        ("refundStarPayment", Kind.NUMBERED),
        ("sendGift", Kind.SPENDING),
        ("sendMessageDraft", Kind.UNNUMBERED),
        ("sendChatAction", Kind.UNNUMBERED),
        ("answerCallbackQuery", Kind.UNNUMBERED),
        ("answerPreCheckoutQuery", Kind.UNNUMBERED),
        ("setMyCommands", Kind.UNNUMBERED),
        ("getFile", Kind.READING),
        ("getSomethingNew", Kind.READING),
        ("sendSomethingNew", Kind.NUMBERED),
    ],
)
def test_what_becomes_of_a_call(method: str, kind: Kind) -> None:
    assert kind_of(method) is kind
    assert is_numbered(method) is (kind in (Kind.NUMBERED, Kind.SPENDING))
    assert is_spending(method) is (kind is Kind.SPENDING)


@pytest.mark.parametrize(
    ("method", "parameters", "items"),
    [
        ("sendMessage", {}, 1),
        ("editMessageText", {}, 1),
        ("sendMediaGroup", {"media": [1, 2, 3]}, 3),
        ("copyMessages", {"message_ids": [1, 2]}, 2),
        ("forwardMessages", {"message_ids": "[1,2]"}, 1),
        ("forwardMessage", {}, 1),
        ("deleteMessage", {}, 0),
        ("sendChatAction", {}, 0),
        ("answerCallbackQuery", {}, 0),
        ("getChat", {}, 0),
    ],
)
def test_what_a_call_counts_for_flood_control(method: str, parameters: dict[str, object], items: int) -> None:
    assert items_of(method, parameters) == items


def test_what_makes_messages_is_kept_as_messages() -> None:
    assert makes_messages("sendPhoto")
    assert makes_messages("copyMessages")
    assert not makes_messages("editMessageText")
    assert not makes_messages("sendGift")


@pytest.mark.parametrize(
    ("method", "text", "again", "done"),
    [
        ("answerCallbackQuery", "Query is too old and response timeout expired or query ID is invalid", False, True),
        ("answerPreCheckoutQuery", "Query is too old and response timeout expired", False, True),
        ("answerCallbackQuery", "Text is too long", False, False),
        ("answerWebAppQuery", "Query is too old", False, False),
        ("editMessageText", "Message is not modified: specified new message content", True, True),
        ("editMessageText", "Message is not modified: specified new message content", False, False),
        ("deleteMessage", "Message to delete not found", True, True),
        ("deleteMessage", "Message to delete not found", False, False),
        ("sendMessage", "Chat not found", True, False),
    ],
)
def test_refusals_that_say_it_is_done(method: str, text: str, again: bool, done: bool) -> None:
    assert is_done_all_the_same(method, BadRequest(text), again=again) is done
    assert not is_done_all_the_same(method, Forbidden(text), again=again)
