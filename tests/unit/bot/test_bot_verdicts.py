"""What an error of Telegram means for the send it was met at."""

from __future__ import annotations

import pytest
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError

from botctl.bot.sending.transport import NotSentError, OutcomeUnknownError, ServerFaultError
from botctl.bot.sending.verdicts import Verdict, verdict_of, why_unreachable


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RetryAfter(3), Verdict.WAIT),
        (ChatMigrated(-1001), Verdict.MOVED),
        (InvalidToken("Unauthorized"), Verdict.TOKEN),
        (InvalidToken("Not Found: method not found"), Verdict.REFUSED),
        (OutcomeUnknownError("cut"), Verdict.HIDDEN),
        (TelegramError("Invalid server response"), Verdict.HIDDEN),
        (NotSentError("no route"), Verdict.AGAIN),
        (ServerFaultError("HTTP 500"), Verdict.AGAIN),
        (NetworkError("Unknown HTTPError (302)"), Verdict.AGAIN),
        (NetworkError("Request Entity Too Large (413)"), Verdict.REFUSED),
        (BadRequest("Chat not found"), Verdict.REFUSED),
        (BadRequest("Message is not modified"), Verdict.REFUSED),
        (Forbidden("bot was blocked by the user"), Verdict.REFUSED),
        (Forbidden("held back by botctl, and not sent"), Verdict.REFUSED),
        (TelegramError("something new"), Verdict.REFUSED),
    ],
)
def test_the_table_of_errors(error: TelegramError, verdict: Verdict) -> None:
    assert verdict_of(error, "editMessageText", again=False) is verdict


def test_what_can_not_be_put_into_a_request_is_not_tried_for_ever() -> None:
    unknown = NetworkError("Unknown error in HTTP implementation: UnicodeEncodeError(…)")
    unknown.__cause__ = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    assert verdict_of(unknown, "sendMessage", again=False) is Verdict.REFUSED
    cut = NotSentError("InvalidURL")
    cut.__cause__ = ValueError()
    assert verdict_of(cut, "sendMessage", again=False) is Verdict.AGAIN


def test_an_edit_that_turns_out_to_be_made_already_is_done() -> None:
    error = BadRequest("Message is not modified: specified new message content and reply markup are the same")
    assert verdict_of(error, "editMessageText", again=True) is Verdict.DONE


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Forbidden("bot was blocked by the user"), "blocked"),
        (Forbidden("user is deactivated"), "deactivated"),
        (Forbidden("bot was kicked from the supergroup chat"), "kicked"),
        (Forbidden("bot is not a member of the channel chat"), "kicked"),
        (Forbidden("bot can't initiate conversation with a user"), "not_started"),
        (Forbidden("the group chat was deleted"), "gone"),
        (Forbidden("held back by botctl, and not sent: it carries its own bot token"), None),
        (Forbidden("not enough rights to send text messages to the chat"), None),
        (BadRequest("Chat not found"), None),
        (NetworkError("bot was blocked by the user"), None),
    ],
)
def test_which_refusals_mean_that_a_chat_can_not_be_reached(error: TelegramError, why: str | None) -> None:
    assert why_unreachable(error) == why
