"""Dead letters as a terminal shows them, and the commands' refusals before any daemon is asked."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from botctl.cli import dead_letters
from botctl.cli.dead_letters_view import letter_lines, letters_lines
from botctl.cli.lines import Line
from botctl.cli.main import app
from botctl.control.tracing.views import (
    AttemptView,
    ContentView,
    DeadLetterBody,
    DeadLettersBody,
    DeadLetterView,
    SendView,
)
from botctl.errors import ExitCode, UsageError

T = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _plain(lines: list[Line]) -> list[str]:
    return ["".join(part for part, _ in line).rstrip() for line in lines]


LETTER = DeadLetterView(
    id="nora/12", bot="nora", bot_id=7, cause="update:5", kind="message", lane="chat:42", chat_id=42, at=T,
    received_at=T - 60, attempts=5, error="ValueError: the kitchen\x1b[2J has burned down", trace_id="863a0daaba5d89c2",
    todo="When it is mended: botctl dead-letters retry nora/12",
)  # fmt: skip


def test_a_line_each_within_the_width() -> None:
    other = LETTER.model_copy(
        update={"id": "gus/9", "chat_id": None, "attempts": 10, "at": T - 90_000, "cause": "event:e"}
    )
    told = _plain(letters_lines(DeadLettersBody(letters=[LETTER, other]), 80, T + 5))
    assert told == [
        "ID       WHEN              CHAT  TRIED  WHY",
        "nora/12  08:00:00            42      5  update 5: ValueError: the kitchen has b…",
        "gus/9    2027-01-14 07:00     -     10  event:e: ValueError: the kitchen has bu…",
    ]


def test_one_with_all_that_is_kept() -> None:
    body = DeadLetterBody(
        letter=LETTER,
        payload='{\n  "text": "<5 characters>"\n}',
        history=[
            AttemptView(attempt=4, outcome="failed", begun_at=T - 9, ended_at=T - 8, error="ValueError: x"),
            AttemptView(
                attempt=5, outcome="given up", begun_at=T - 1, ended_at=T, error="y", traceback="File a\n  boom"
            ),
        ],
        sends=[SendView(n=0, mode="inline", method="sendMessage", chat_id=42, state="sent", planned_at=T)],
    )
    told = _plain(letter_lines(body, 80, T + 5, text=False))
    assert told == [
        "nora/12 · update 5 · chat 42",
        "given up 2027-01-15 08:00:00 (5 s ago)",
        "received 2027-01-15 07:59:00 (65 s ago), trace 863a0daaba5d89c2",
        "Why: ValueError: the kitchen has burned down",
        "",
        "Attempts:",
        "  2027-01-15 07:59:52  failed 4: ValueError: x",
        "  2027-01-15 08:00:00  given up at attempt 5: y",
        "",
        "Traceback of attempt 5:",
        "  File a",
        "    boom",
        "",
        "Sent or planned already (not sent again):",
        "  sendMessage to chat 42: sent",
        "",
        "What came (texts and names masked; --text shows them):",
        "  {",
        '    "text": "<5 characters>"',
        "  }",
        "",
        "When it is mended: botctl dead-letters retry nora/12",
    ]


def test_nothing_that_a_bot_has_written_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\u202e"
    letter = LETTER.model_copy(update=dict.fromkeys(("id", "cause", "kind", "error", "trace_id", "todo"), evil))
    attempt = AttemptView(attempt=1, outcome="failed", ended_at=T, error=evil, traceback=f"a\n{evil}")
    send = SendView(n=0, mode="inline", method=evil, state="sent", planned_at=T, error=evil)
    body = DeadLetterBody(letter=letter, history=[attempt], sends=[send], payload=f'{{"a": "{evil}"}}')
    lines = [*letter_lines(body, 80, T, text=True), *letters_lines(DeadLettersBody(letters=[letter]), 80, T)]
    assert not set("\x1b\r\u202e") & set("".join(_plain(lines)))


def test_what_is_sealed_is_told() -> None:
    told = _plain(letter_lines(DeadLetterBody(letter=LETTER, content=ContentView(sealed=True)), 80, T, text=False))
    assert "What came is sealed; --text opens it." in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-letters", "retry"),
        ("dead-letters", "retry", "--all"),
        ("dead-letters", "retry", "nora/1", "--bot", "nora", "--all"),
        ("dead-letters", "drop", "nora/1"),  # nobody to be asked
        ("dead-letters", "list", "--kind", "letter"),
        ("dead-letters", "list", "--since", "yesterday"),
        ("trace",),
        ("trace", "5", "--chat", "6", "--bot", "nora"),
        ("trace", "--chat", "6"),
        ("trace", "--trace", "5"),
    ],
)
def test_wrong_commands_are_refused_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == int(ExitCode.USAGE)


def test_nobody_is_asked_about_what_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: pytest.fail("it has asked"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for ids, bot, everything in (([], None, False), (["1"], "nora", True), (None, None, True)):
        with pytest.raises(UsageError):
            dead_letters.drop(ids, None, bot, everything)


@pytest.mark.parametrize(
    ("shown", "there_are", "words"),
    [
        (99, None, ""),
        (100, 100, ""),
        (100, 250, "these are the latest 100 of 250 (--limit)"),
        (100, None, "these are the latest 100; there may be more (--limit)"),
    ],
)
def test_a_list_that_is_cut_says_of_how_many_where_that_is_known(shown: int, there_are: int | None, words: str) -> None:
    assert dead_letters._more(shown, 100, there_are) == words
