"""Errors without what they may quote: of exceptions the class, of known sentences all but quotations."""

from __future__ import annotations

import traceback

import pytest

from botctl.control.tracing.contents import Opener
from botctl.control.tracing.masking import is_refusal, masked_error, masked_traceback
from botctl.storage.sealing import UNSEALED


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ValueError: a secret cake", "ValueError: <13 characters>"),
        ("json.decoder.JSONDecodeError: secret", "json.decoder.JSONDecodeError: <6 characters>"),
        ("ShopClosed: secret", "ShopClosed: <6 characters>"),
        ("can't be read: KeyError: 'secret'", "can't be read: KeyError: <8 characters>"),
        ("BadRequest: Message is too long", "BadRequest: Message is too long"),
        ('BadRequest: can\'t find end of "secret"', "BadRequest: can't find end of <6 characters>"),
        ("CompletionError: 503 from the API", "CompletionError: 503 from the API"),
        ("the process ended: killed by signal 9", "the process ended: killed by signal 9"),
        ("by ann", "by ann"),
        ("ValueError", "ValueError"),
    ],
)
def test_an_error_is_told_without_what_it_quotes(error: str, shown: str) -> None:
    assert masked_error(error) == shown


def trace_of(secret: str) -> str:
    try:
        try:
            raise ValueError(secret)
        except ValueError as error:
            raise RuntimeError("secret again") from error
    except RuntimeError as error:
        return "".join(traceback.format_exception(error))


def test_frames_of_a_traceback_stay_and_what_was_said_goes() -> None:
    shown = masked_traceback(trace_of('secret\n    secret 2\n  File "secret", line 3\n\nsecret 3'))
    assert "secret" not in shown.replace("ValueError(secret)", "").replace('"secret again"', "")
    assert shown.count("  File ") == 2
    assert "ValueError: <" in shown
    assert "RuntimeError: <12 characters>" in shown
    assert "The above exception was the direct cause" in shown


def test_a_traceback_whose_beginning_is_cut_off_says_nothing_more() -> None:
    whole = trace_of("secret")
    for cut in range(0, whole.index("The above"), 7):
        shown = masked_traceback(whole[cut:])
        assert "secret" not in shown.replace("ValueError(secret)", "").replace('"secret again"', "")
        assert "RuntimeError: <12 characters>" in shown


def test_masked_errors_are_opened_by_who_asks_for_texts_which_is_counted() -> None:
    closed, opened = Opener(lambda: UNSEALED, show=False), Opener(lambda: UNSEALED, show=True)
    assert closed.error("inbox", "last_error", "ValueError: secret") == "ValueError: <6 characters>"
    assert closed.traceback("ValueError: secret") != opened.traceback("ValueError: secret")
    assert (closed.opened, opened.error("inbox", "last_error", "ValueError: secret")) == (0, "ValueError: secret")
    assert opened.error("attempts", "error", "by ann") == "by ann"
    assert opened.opened == 2


def test_what_was_never_sent_was_not_refused() -> None:
    assert is_refusal("BadRequest: chat not found")
    assert is_refusal("Forbidden: bot was blocked by the user")
    for error in (
        "",
        "the process ended during the call",
        "Forbidden: the chat is unreachable: blocked",
        "TimedOut: x",
    ):
        assert not is_refusal(error)
