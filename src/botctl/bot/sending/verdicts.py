"""What an error of a call means for its send. Pure: one table for handlers' calls, answers and what was left over."""

from __future__ import annotations

from enum import StrEnum

from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError

from botctl.bot.receiving.token_refusal import means_the_token
from botctl.bot.sending.methods import is_done_all_the_same
from botctl.bot.sending.transport import NotSentError, OutcomeUnknownError, ServerFaultError


class Verdict(StrEnum):
    """What came of a call that raised."""

    WAIT = "wait"
    """Flood control: it had no effect, and whom it concerns waits."""
    AGAIN = "again"
    """It had no effect, for a reason that passes."""
    HIDDEN = "hidden"
    """It may have had its effect: `on_uncertain` decides."""
    MOVED = "moved"
    """The group has become a supergroup: it is made there."""
    DONE = "done"
    """What it was for has come about."""
    TOKEN = "token"
    """Telegram refuses the bot's token: it had no effect, and the bot ends."""
    REFUSED = "refused"
    """Telegram refuses it, and would again."""


_GARBLED = "invalid server response"
"""python-telegram-bot's words for a 200 that is no JSON: whoever has answered, Telegram may have carried it out."""

_UNWRITABLE = (TypeError, ValueError)
"""What python-telegram-bot calls an unknown error of HTTP is then a call that can't be put into a request, now or ever:
a lone surrogate in its text, say."""

_TOO_LARGE = ("413", "too large")


def verdict_of(error: TelegramError, method: str, *, again: bool) -> Verdict:
    """`again`: an earlier call of the same send may have had its effect."""
    if isinstance(error, RetryAfter):
        return Verdict.WAIT
    if isinstance(error, ChatMigrated):
        return Verdict.MOVED
    if isinstance(error, InvalidToken):
        return Verdict.TOKEN if means_the_token(error, method) else Verdict.REFUSED
    if isinstance(error, OutcomeUnknownError) or str(error).lower() == _GARBLED:
        return Verdict.HIDDEN
    if isinstance(error, NotSentError | ServerFaultError):
        return Verdict.AGAIN
    if is_done_all_the_same(method, error, again=again):
        return Verdict.DONE
    if isinstance(error.__cause__, _UNWRITABLE):
        return Verdict.REFUSED
    if isinstance(error, NetworkError) and not isinstance(error, BadRequest):
        return Verdict.REFUSED if any(word in str(error).lower() for word in _TOO_LARGE) else Verdict.AGAIN
    return Verdict.REFUSED


_UNREACHABLE = (
    ("bot was blocked by the user", "blocked"),
    ("user is deactivated", "deactivated"),
    ("bot was kicked", "kicked"),
    ("bot is not a member", "kicked"),
    ("bot can't initiate conversation", "not_started"),
    ("group chat was deactivated", "gone"),
    ("the group chat was deleted", "gone"),
)
"""Telegram's words, and ours (table `chat_states`)."""


def why_unreachable(error: TelegramError) -> str | None:
    """Why nothing can be sent to the chat of this call; None when the refusal is about something else."""
    if not isinstance(error, Forbidden | BadRequest):
        return None
    text = str(error).lower()
    return next((why for words, why in _UNREACHABLE if words in text), None)
