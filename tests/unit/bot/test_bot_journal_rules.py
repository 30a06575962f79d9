"""The rules of the send journal: repeat, make, skip, diverge."""

from __future__ import annotations

import pytest
import telegram.error

from botctl.bot.sending.journal import rebuild_error
from botctl.bot.sending.journal_rules import (
    Journal,
    Make,
    Recorded,
    Refused,
    Skip,
    describe_error,
    recordable,
)
from botctl.storage.sends import SendRow


def sent(
    n: int, state: str = "sent", method: str = "sendMessage", chat: int | None = 1, mode: str = "inline"
) -> SendRow:
    return SendRow("update:1", n, mode, method, chat, {}, state, result={"message_id": n}, error="BadRequest: no")


def replay(*rows: SendRow) -> Journal:
    journal = Journal()
    journal.begin(list(rows))
    return journal


def test_first_calls_are_numbered_and_made() -> None:
    journal = replay()
    assert [journal.decide("sendMessage", 1, resend=True) for _ in range(2)] == [Make(0), Make(1)]


def test_a_replay_is_answered_from_the_journal_and_then_goes_on() -> None:
    journal = replay(sent(0), sent(1, "failed"))
    assert journal.decide("sendMessage", 1, resend=True) == Recorded(journal.recorded[0])
    assert journal.decide("sendMessage", 1, resend=True) == Refused(journal.recorded[1])
    assert journal.decide("sendMessage", 1, resend=True) == Make(2)
    assert journal.divergences == 0


@pytest.mark.parametrize(
    ("state", "resend", "decision"),
    [
        ("sending", True, Make(0, known=True, uncertain=True)),
        ("sending", False, Skip(0)),
        ("planned", True, Make(0, known=True)),
        ("planned", False, Make(0, known=True)),
        ("skipped", True, Skip(0, recorded=True)),
        ("skipped", False, Skip(0, recorded=True)),
    ],
)
def test_what_a_crash_left(state: str, resend: bool, decision: Make | Skip) -> None:
    assert replay(sent(0, state)).decide("sendMessage", 1, resend=resend) == decision


@pytest.mark.parametrize(
    "row",
    [sent(0, method="sendPhoto"), sent(0, chat=2), sent(0, mode="deferred")],
    ids=["method", "chat", "mode"],
)
def test_another_call_is_a_divergence_and_so_is_all_that_follows(row: SendRow) -> None:
    journal = replay(row, sent(1), sent(2, "sending"))
    assert journal.decide("sendMessage", 1, resend=True) == Make(3)
    assert journal.decide("sendMessage", 1, resend=True) == Make(4)
    assert journal.divergences == 1
    assert journal.leftovers


def test_leftovers_are_begun_calls_that_were_not_repeated() -> None:
    journal = replay(sent(0), sent(1, "sending"))
    journal.decide("sendMessage", 1, resend=True)
    assert journal.leftovers
    journal.decide("sendMessage", 1, resend=True)
    assert not journal.leftovers


def test_deferred_sends_are_numbered_behind_everything() -> None:
    journal = replay(sent(0), sent(1))
    assert journal.reserve(2) == 2
    assert journal.reserve(1) == 4


@pytest.mark.parametrize(
    "error",
    [
        telegram.error.BadRequest("Message is not modified"),
        telegram.error.Forbidden("bot was blocked by the user"),
    ],
)
def test_a_recorded_refusal_is_raised_as_it_was(error: telegram.error.TelegramError) -> None:
    rebuilt = rebuild_error(describe_error(error))
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)


def test_files_are_recorded_by_their_kind_only() -> None:
    assert recordable({"chat_id": 1, "photo": object(), "a": (1, None)}) == {
        "chat_id": 1,
        "photo": "<object>",
        "a": [1, None],
    }


def test_what_is_kept_of_a_call_is_what_postgresql_takes() -> None:
    assert recordable({"text": "a\x00b", "odd\ud800": ["\udfff"]}) == {"text": "a\ufffdb", "odd\ufffd": ["\ufffd"]}
    assert describe_error(ValueError("can't parse \x00")) == "ValueError: can't parse \ufffd"
