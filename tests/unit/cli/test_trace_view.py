"""One message's way as a terminal shows it: all is told, in order, within the width, without strangers' tricks."""

from __future__ import annotations

import time

import pytest

from botctl.cli.lines import Line, clock
from botctl.cli.trace_points import money
from botctl.cli.trace_view import chat_lines, trace_lines
from botctl.control.tracing.views import (
    AttemptView,
    ChatBody,
    ChatLineView,
    CompletionView,
    ContentView,
    EventView,
    HandlingView,
    SendView,
    TraceBody,
)

T = 1_800_000_000.0
TRACE = "863a0daaba5d89c2"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _plain(lines: list[Line]) -> list[str]:
    return ["".join(part for part, _ in line).rstrip() for line in lines]


def _reaction() -> HandlingView:
    return HandlingView(
        bot="gus", bot_id=8, cause="event:e1", kind="event", lane="event:cake.ordered", trace_id=TRACE, state="done",
        attempts=1, received_at=T + 2.5, begun_at=T + 2.51, ended_at=T + 2.6,
        sends=[SendView(n=0, mode="inline", method="sendMessage", chat_id=99, state="failed", refused=True, attempts=1,
                        planned_at=T + 2.55, error="Forbidden: bot was blocked by the user")],
    )  # fmt: skip


def _root(**changes: object) -> HandlingView:
    root = HandlingView(
        bot="nora", bot_id=7, cause="update:5", kind="message", lane="chat:42", chat_id=42, trace_id=TRACE,
        state="done", attempts=2, written_at=T - 1, received_at=T, begun_at=T + 1.0, ended_at=T + 2.0,
        content=ContentView(type="text", length=25),
        history=[AttemptView(attempt=1, outcome="failed", begun_at=T + 0.012, ended_at=T + 0.2, error="ValueError: x")],
        completions=[
            CompletionView(step=0, model="m", begun_at=T + 0.05, ended_at=T + 0.1, duration_ms=50, input_tokens=120,
                           output_tokens=45, cached_tokens=80, retries=2, finish_reason="stop", cost=0.0012,
                           reused=True, content=ContentView(length=300))
        ],
        sends=[SendView(n=0, mode="deferred", method="sendMessage", chat_id=42, state="sent", attempts=2, uncertain=1,
                        planned_at=T + 2.0, sent_at=T + 2.4, content=ContentView(length=300))],
        events=[EventView(id="e1", type="cake.ordered", bot="nora", bot_id=7, occurred_at=T + 1.9, relayed_at=T + 2.1,
                          deliveries=[_reaction()])],
    )  # fmt: skip
    return root.model_copy(update=changes)


def _body(*roots: HandlingView, **changes: object) -> TraceBody:
    body = TraceBody(asked="5", now=T + 9, trace_id=TRACE, roots=list(roots), input_tokens=120, output_tokens=45,
                     cost=0.0012, currency="USD")  # fmt: skip
    return body.model_copy(update=changes)


def test_the_whole_way_is_told_in_order() -> None:
    told = _plain(trace_lines(_body(_root()), 100))
    assert told == [
        f"nora · update 5 · chat 42 · trace {TRACE}",
        "done in 2.0 s · message, 25 characters · 2027-01-15",
        "07:59:59.000    -1.0 s  written, by Telegram's clock, in whole seconds",
        "08:00:00.000            received and stored",
        "08:00:00.012    +12 ms  attempt 1 begins after 12 ms in the queue",
        "08:00:00.100   +100 ms  m answered in 50 ms: 120 tokens in (80 cached), 45 out, cost 0.0012, 2",
        "                        retries, used again by a later attempt, 300 characters",
        "08:00:00.200   +200 ms  attempt 1 failed: ValueError: x",
        "08:00:01.000    +1.0 s  attempt 2 begins",
        "08:00:01.900    +1.9 s  event cake.ordered, relayed 200 ms later, taken by gus",
        "08:00:02.000    +2.0 s  done, and committed",
        "08:00:02.400    +2.4 s  sendMessage to chat 42, 300 characters: sent in 400 ms, 2 calls; outcome",
        "                        unknown once",
        "",
        "  → gus · event:e1",
        "  done in 100 ms",
        "  08:00:02.500    +2.5 s  the event is taken from the mailbox",
        "  08:00:02.510    +2.5 s  handling begins after 10 ms in the queue",
        "  08:00:02.550    +2.5 s  sendMessage to chat 99: refused by Telegram: Forbidden: bot was blocked by",
        "                          the user",
        "  08:00:02.600    +2.6 s  done, and committed",
        "",
        "In all: 120 tokens in, 45 out, 0.0012 USD.",
    ]


@pytest.mark.parametrize(
    ("until", "words"), [(T + 12, "Telegram has asked to wait until 08:00:12"), (T, "not sent yet")]
)
def test_a_send_that_waits_says_until_when(until: float, words: str) -> None:
    send = SendView(
        n=0, mode="deferred", method="sendMessage", chat_id=42, state="planned", planned_at=T + 2, waits_until=until
    )
    assert any(words in line for line in _plain(trace_lines(_body(_root(sends=[send])), 100)))


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (True, "refused by Telegram: e"),
        (False, "given up, and never sent: e"),
        (None, "refused by Telegram, or given up"),
    ],
)
def test_what_was_never_sent_is_not_called_refused(refused: bool | None, words: str) -> None:
    send = SendView(
        n=0, mode="inline", method="sendMessage", state="failed", planned_at=T + 2, refused=refused, error="e"
    )
    assert any(words in line for line in _plain(trace_lines(_body(_root(sends=[send])), 100)))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = _root(error="x" * 500, content=ContentView(type="text", length=900, text="word " * 180))
    assert max(len(line) for line in _plain(trace_lines(_body(long), width))) <= width


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "new", "ended_at": None, "waits": "next attempt in 4 s"}, "now: next attempt in 4 s"),
        ({"state": "dead", "history": [], "error": "can't be read: x"}, "given up at once: can't be read: x"),
        ({"state": "dropped"}, "dropped · message"),
    ],
)
def test_what_has_not_ended_well_says_so(changes: dict[str, object], words: str) -> None:
    assert any(words in line for line in _plain(trace_lines(_body(_root(**changes)), 100)))


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("waited", "attempt 1 is put off, and not counted: e"),
        ("interrupted", "attempt 1 was interrupted; found at this time: e"),
        ("given up", "given up after 1 attempt: e"),
        ("retried", "to be tried again, e"),
    ],
)
def test_every_outcome_of_an_attempt_has_its_words(outcome: str, words: str) -> None:
    history = [AttemptView(attempt=1, outcome=outcome, begun_at=T + 0.1, ended_at=T + 0.2, error="e")]
    assert any(words in line for line in _plain(trace_lines(_body(_root(history=history)), 100)))


def test_texts_are_quoted_only_when_they_were_asked_for_and_move_no_cursor() -> None:
    said = ContentView(type="text", length=9, text="a\x1b[2Jb\nc\x07")
    told = _plain(trace_lines(_body(_root(content=said)), 80))
    assert told[2:4] == ["│ ab", "│ c�"]
    assert not any("\x1b" in line or "\x07" in line for line in told)
    assert not any("│" in line for line in _plain(trace_lines(_body(_root()), 80)))


def test_nothing_that_a_bot_has_written_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\u202e"
    root = _root(kind=evil, lane=f"other{evil}", cause=f"op:{evil}", trace_id=evil, error=evil, waits=evil)
    for thing in (*root.history, *root.completions, *root.sends, *root.events):
        for key, value in thing:
            if isinstance(value, str) and key not in ("state", "mode", "outcome"):
                setattr(thing, key, f"{value}{evil}")
    for state in ("done", "new", "dead"):
        lines = trace_lines(_body(root.model_copy(update={"state": state}), notes=[evil], unpriced=[evil]), 80)
        assert not set("\x1b\r\u202e") & set("".join(_plain(lines)))


def test_an_unknown_price_is_told_and_no_cost_invented() -> None:
    told = _plain(trace_lines(_body(_root(), cost=None, currency="", unpriced=["m"]), 100))
    assert "In all: 120 tokens in, 45 out." in told
    assert any("No price is set for m" in line for line in told)


def test_an_event_is_told_with_who_took_it() -> None:
    event = EventView(id="e1", type="cake.ordered", bot="nora", bot_id=7, occurred_at=T, causation_id="update:5",
                      correlation_id=TRACE, deliveries=[_reaction()])  # fmt: skip
    told = _plain(trace_lines(_body(event=event), 100))
    assert told[0] == "cake.ordered · nora · event:e1"
    assert f"caused by update:5, trace {TRACE}" in told
    assert any("not relayed" in line for line in told)
    assert "  → gus · event:e1" in told
    waiting = _reaction().model_copy(update={"state": "new", "ended_at": None, "waits": "the bot is stopped"})
    body = _body(event=event.model_copy(update={"deliveries": [waiting]}))
    (now,) = [line for line in _plain(trace_lines(body, 100)) if "now: the bot is stopped" in line]
    assert clock(body.now) in now


def test_a_chat_is_listed_a_line_each_the_newest_last() -> None:
    messages = [
        ChatLineView(bot="nora", cause=f"update:{n}", kind="message", state=state, trace_id=TRACE, received_at=T + n,
                     ended_at=T + n + 0.5, attempts=n, sends=1, tokens=30, error="boom")
        for n, state in ((2, "dead"), (1, "done"))
    ]  # fmt: skip
    told = _plain(chat_lines(ChatBody(bot="nora", chat_id=42, now=T + 9, messages=messages), 80))
    assert told == [
        "08:00:01  1           done in 500 ms; message; 1 sent; 30 tokens",
        "08:00:02  2           dead letter; message; 2 attempts; 1 sent; 30 tokens; boom",
    ]


def test_small_words() -> None:
    assert [money(one) for one in (1.254, 0.1, 0.0012, 0.00000012, 0)] == [
        "1.25",
        "0.10",
        "0.0012",
        "<0.000001",
        "0.00",
    ]
    assert clock(T + 0.0625) == "08:00:00.062"
