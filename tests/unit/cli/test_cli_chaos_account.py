"""The users' account: which message an answer belongs to, and what is lost, double, or in disorder."""

from __future__ import annotations

from botctl.cli.chaos.account import Account
from botctl.cli.chaos.harm import Done, Harm
from botctl.cli.chaos.report import Report, fill, markdown, quantiles, text
from botctl.cli.chaos.scenario import Contains, Step
from botctl.sandbox.client import SandboxError

BOT, CHAT = 1, 5


def test_an_answer_belongs_to_the_message_whose_mark_it_repeats() -> None:
    account = Account()
    first, second = (account.send(BOT, CHAT, at) for at in (1.0, 2.0))
    assert account.answer(BOT, CHAT, f"you said {second.mark}", 3.0) is second
    assert account.answer(BOT, CHAT, f"you said {first.mark}", 4.0) is first
    assert (first.latency, second.latency) == (3.0, 1.0)
    assert account.disorder() == 1
    assert account.waiting() == []


def test_an_answer_without_a_mark_belongs_to_the_oldest_that_waits_in_its_chat() -> None:
    account = Account()
    first, second, elsewhere = account.send(BOT, CHAT, 1), account.send(BOT, CHAT, 2), account.send(BOT, 6, 1)
    assert account.answer(BOT, CHAT, "Sorry", 3) is first
    assert account.answer(BOT, CHAT, "Sorry", 3) is second
    assert account.waiting() == [elsewhere]
    assert account.waiting(before=0.5) == []
    assert account.answer(BOT, CHAT, "Sorry", 4) is second
    assert (first.extra, second.extra) == (0, 1)


def test_the_mark_of_another_chat_is_no_mark() -> None:
    account = Account()
    mine, other = account.send(BOT, CHAT, 1), account.send(BOT, 6, 1)
    assert account.answer(BOT, CHAT, other.mark, 2) is mine
    assert account.answer(2, CHAT, mine.mark, 2) is None
    assert len(account.unexpected) == 1


def test_an_answer_must_contain_what_is_expected() -> None:
    account = Account()
    message = account.send(BOT, CHAT, 1, Contains(contains="noted {mark}"))
    assert account.answer(BOT, CHAT, f"lost {message.mark}", 2) is None
    assert account.waiting() == [message]
    assert account.answer(BOT, CHAT, f"noted {message.mark}", 3) is message


def test_some_messages_need_no_answer_and_some_need_several() -> None:
    account = Account()
    none, maybe = account.send(BOT, CHAT, 1, "none"), account.send(BOT, CHAT, 2, "maybe")
    three = account.send(BOT, CHAT, 3, replies=3)
    assert account.waiting() == [three]
    for _ in range(3):
        assert account.answer(BOT, CHAT, "part", 4) is three
    assert account.answer(BOT, CHAT, "part", 4) is maybe
    assert [one.extra for one in (none, maybe, three)] == [0, 0, 0]
    assert account.answer(BOT, CHAT, none.mark, 5) is none
    assert none.extra == 1


def test_a_pressed_button_is_answered_by_its_query_an_edit_or_a_message() -> None:
    account = Account()
    pressed, again = account.send(BOT, CHAT, 1), account.send(BOT, CHAT, 2)
    pressed.query_id, again.query_id = "q1", "q2"
    assert account.acted(BOT, None, "q2", 3) is again
    assert account.acted(BOT, None, "q2", 3) is None
    assert account.acted(BOT, CHAT, "", 3) is pressed
    account.answer(BOT, CHAT, "and a message", 3)
    assert (pressed.extra, again.extra) == (0, 0)


def test_a_report_adds_up_and_passes_only_when_nothing_is_lost_or_double_without_being_counted() -> None:
    account = Account()
    for number in range(10):
        message = account.send(BOT, CHAT, 100.0 + number)
        account.answer(BOT, CHAT, message.mark, 100.5 + number)
    report = Report("x", 1, 1, 10.0)
    fill(report, account, (100.0, 103.0), [("kill", 105.0, 106.0)])
    assert (report.sent, report.answered, report.lost, report.duplicated, report.passed) == (10, 10, 0, 0, True)
    assert [(one.label, one.sent, one.p50) for one in report.latencies] == [
        ("calm", 3, 0.5),
        ("kill", 4, 0.5),
        ("all", 10, 0.5),
    ]
    account.answer(BOT, CHAT, "m10x", 120.0)
    fill(report, account, (100.0, 103.0), [])
    assert (report.duplicated, report.passed) == (1, False)
    report.uncertain, report.uncertain_of = 1, {BOT + 1: 1}
    assert not report.passed  # another bot's hidden outcome explains nothing
    report.uncertain_of = {BOT: 1}
    assert report.passed
    account.send(BOT, CHAT, 200.0)
    fill(report, account, (100.0, 103.0), [])
    assert (report.lost, report.passed) == (1, False)
    assert text(report).endswith("chaos: 11 sent, 10 answered, 1 lost, 1 duplicated (1 uncertain)")
    assert "| lost | 1 |" in markdown(report)
    assert report.lost_messages == ["m11x to bot 1 in chat 5, 100.0 s after the start"]
    assert "lost: m11x to bot 1" in text(report)
    assert "- lost: m11x to bot 1" in markdown(report)


def test_disorder_fails_only_where_updates_came_in_order() -> None:
    account = Account()
    first, second = account.send(BOT, CHAT, 1), account.send(BOT, CHAT, 2)
    account.answer(BOT, CHAT, second.mark, 3)
    account.answer(BOT, CHAT, first.mark, 3)
    for order_matters in (True, False):
        report = Report("x", 1, 1, 1.0, order_matters=order_matters)
        fill(report, account, (0, 1), [])
        assert (report.out_of_order, report.passed) == (1, not order_matters)


def test_quantiles_of_nothing_are_unknown() -> None:
    assert quantiles([None]) == (None, None, None)
    assert quantiles([2.0]) == (2.0, 2.0, 2.0)
    assert quantiles([float(number) for number in range(101)]) == (50.0, 95.0, 99.0)


def test_part_of_an_answer_is_none_and_a_run_without_messages_shows_nothing() -> None:
    account, report = Account(), Report("x", 1, 1, 10.0)
    fill(report, account, (0.0, 1.0), [])
    assert (report.sent, report.lost, report.passed) == (0, 0, False)
    message = account.send(BOT, CHAT, 1.0, replies=3)
    for _ in range(2):
        account.answer(BOT, CHAT, message.mark, 2.0)
    fill(report, account, (0.0, 1.0), [])
    assert (report.lost, report.passed) == (1, False)
    account.answer(BOT, CHAT, message.mark, 3.0)
    fill(report, account, (0.0, 1.0), [])
    assert report.passed


async def test_harm_that_can_not_be_done_is_told_whatever_the_reason() -> None:
    async def refused() -> None:
        raise SandboxError("there is no such limit")

    harm, told = object.__new__(Harm), list[str]()
    harm._tell = told.append
    entry = Done(0, "limits", 1.0, 1.0)
    await harm._try(refused(), entry, Step.model_validate({"at": 0, "kill": "bot"}))
    assert entry.failed == "there is no such limit"
    assert "there is no such limit" in told[0]
