"""The answer of `botctl why`: how the bot is, what to do, and each class of death in words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from botctl.cli.answer import answer
from botctl.cli.log_line import readable
from botctl.cli.words import ago, cut, local_time, printable, span, with_signals_named
from botctl.control.advice import ADVICE, FATAL_SIGNAL, HELD_BACK, IN_THE_KERNEL, NO_PLACE, OPEN_FILES, STOPPED, advice
from botctl.control.views import BotView, DeathBody, DeathsBody
from botctl.supervision.model import Failure, State

NOW = 1_800_000_000.0


def death(**more: Any) -> DeathBody:
    given: dict[str, Any] = {
        "name": "support", "bot_id": 7, "incarnation": 3, "started_at": NOW - 700, "ended_at": NOW - 180,
        "duration_s": 520.0, "failure": "crash", "exit": "exit 1", "cause": "ZeroDivisionError: division by zero",
        "action": "restarted in 0.08 s", "memory_mb": 38.4, "silent_for_s": 0.5, "log_tail": [], "stacks": "",
        "source": "database",
    }  # fmt: skip
    return DeathBody(**(given | more))


def bot(state: str = "running", **more: Any) -> BotView:
    given: dict[str, Any] = {"name": "support", "bot_id": 7, "state": state, "pid": 44, "since_s": 180, "uptime_s": 180}
    return BotView(**(given | more))


def tell(now: BotView | None = None, *deaths: DeathBody, width: int = 4000, **more: Any) -> str:
    options = {key: more.pop(key) for key in ("full", "unseen") if key in more}
    body = DeathsBody(
        name="support", bot=now, deaths=list(deaths), **({"last_end": deaths[0] if deaths else None} | more)
    )
    return "\n".join(answer(body, now=NOW, width=width, **options))


# --- how it is now -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (bot(uptime_s=10_800.0), "support runs (pid 44), for 3 h."),
        (bot("degraded", reason="redis"), "support runs (pid 44), for 3 min, but is degraded: redis."),
        (bot(reason="kept off Redis by botctl for 9 s more (x)", kept_off_redis="x"),
         "for 3 min, but not all is well: kept off Redis by botctl for 9 s more (x).\nTo do: It took more of Redis"),
        (bot("paused", reason="database"), "It goes on by itself when that is back; a restart would not help."),
        (bot("starting"), "support is starting since"),
        (bot("failed", reason="no heartbeat for 10 s"), "support is being ended since"),
        (bot("backoff", pid=None, reason="exit 1"), "(3 min ago): exit 1. It is started again by itself."),
        (bot("quarantined", pid=None, reason="401"), "(3 min ago): 401. It is not started again by itself."),
        (bot("quarantined", pid=None), "botctl release support"),
        (bot("stopped", pid=None, reason="by operator"), "by operator. To start it: botctl restart support"),
        (bot("stopped", pid=None, reason="by operator"), "A daemon that is started anew starts it again. For good:"),
        (bot("quarantined", pid=None, shut_away=True), "and stays so when a daemon is started anew."),
        (bot("stopped", pid=None, enabled=False), "the fleet file says enabled: false."),
        (bot("configured", pid=None, reason="being prepared"), "support has not been started yet: being prepared."),
        (None, "support is not in the fleet any more."),
    ],
)  # fmt: skip
def test_the_first_sentence_says_how_the_bot_is(now: BotView | None, said: str) -> None:
    assert said in tell(now).split("\nsupport has not died")[0]


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_sentence_of_its_own(state: State) -> None:
    first = tell(bot(state.value)).splitlines()[0]
    assert first.startswith("support ")
    assert f"support is {state.value} since" not in first or state in (State.STARTING, State.QUARANTINED, State.STOPPED)


def test_a_quarantined_bot_is_told_what_to_do_and_then_released() -> None:
    told = tell(bot("quarantined", reason="no module"), death(failure="code"))
    assert f"To do: {ADVICE[Failure.CODE]} Then: botctl release support" in told


def test_a_new_token_is_applied_and_needs_no_release() -> None:
    told = tell(bot("quarantined", reason="Telegram refuses the token"), death(failure="bad_token"))
    assert f"\nTo do: {ADVICE[Failure.BAD_TOKEN]}\n" in told
    assert "botctl release" not in told


def test_a_bot_that_the_breaker_holds_is_told_to_look_for_what_they_share() -> None:
    reason = "7 of 9 bots failed within 10 s, so restarts are held back"
    told = tell(bot("backoff", reason=reason, held_back=True), death(action="next start after 1.9 s"), death())
    assert told.count("Then: held back by the fleet breaker: 7 of 9 bots failed within 10 s\n") == 1
    assert "1.9 s" not in told
    assert f"\nTo do: {HELD_BACK} To start this one at once: botctl restart support\n" in told
    assert f"\n  To do: {ADVICE[Failure.CRASH]}\n" in told
    assert HELD_BACK not in tell(bot("backoff", reason="ValueError"), death())


@pytest.mark.parametrize(
    ("fields", "todo"),
    [
        ({"exit": "signal 11", "cause": "killed by SIGSEGV"}, FATAL_SIGNAL),
        ({"exit": "exit 3", "cause": "ended with exit code 3"}, NO_PLACE),
        ({"exit": "exit 3", "cause": "ValueError: no (h.py:3)"}, ADVICE[Failure.CRASH]),
        ({"exit": "exit 1", "cause": "OSError: [Errno 24] Too many open files: 'a' (h.py:3)"}, OPEN_FILES),
        ({"failure": "hang", "cause": "no heartbeat for 10 s: it had been stopped by a signal"}, STOPPED),
        ({"failure": "not_ready", "cause": "a debugger had stopped it"}, STOPPED),
        ({"failure": "hang", "cause": "it was stuck in the kernel, as by a disk"}, IN_THE_KERNEL),
        ({"failure": "hang", "cause": "no heartbeat for 10 s"}, ADVICE[Failure.HANG]),
    ],
)
def test_advice_fits_what_is_known_of_the_death(fields: dict[str, str], todo: str) -> None:
    for state in ("running", "backoff"):
        told = tell(bot(state), death(**fields))
        assert told.count("To do: ") == 1
        assert f"To do: {todo}\n" in told


def test_a_signal_is_told_by_its_name() -> None:
    told = tell(bot("quarantined", reason="6 failures within 60 s, the last: signal 11"))
    assert "the last: SIGSEGV" in told
    assert with_signals_named("signal 99, signals 3") == "signal 99, signals 3"


def test_a_bot_that_an_operator_quarantined_is_to_be_released_whatever_it_failed_of_before() -> None:
    asked = death(failure=None, exit="signal 9", cause="quarantined by operator", ended_at=NOW - 5)
    told = tell(bot("quarantined", last_failure="hang"), death(failure="hang"), last_end=asked)
    assert "\nTo do: botctl release support\n" in told


def test_advice_stands_with_the_latest_death_of_a_class_and_once_only() -> None:
    hang, crash = death(failure="hang"), death(failure="crash")
    told = tell(bot(), hang, crash, hang)
    assert told.count(ADVICE[Failure.HANG]) == told.count(ADVICE[Failure.CRASH]) == 1
    assert told.index(ADVICE[Failure.HANG]) < told.index(ADVICE[Failure.CRASH])
    assert tell(bot("backoff"), hang, hang).count(ADVICE[Failure.HANG]) == 1


def test_nothing_to_tell_says_so() -> None:
    told = tell(bot(uptime_s=10_800.0), since=NOW - 86_400 * 9)
    assert told.splitlines() == [
        "support runs (pid 44), for 3 h.",
        f"support has not died since {local_time(NOW - 86_400 * 9)} (9 days ago), when its history begins.",
    ]


def test_an_end_that_was_asked_for_is_named_when_it_was_the_last() -> None:
    asked = death(failure=None, exit="exit 0", cause="restarted by operator", ended_at=NOW - 60)
    assert "It last ended 60 s ago, because it was asked to: restarted by operator." in tell(bot(), last_end=asked)
    assert "because it was asked to" not in tell(bot(), death())
    assert "because it was asked to" not in tell(bot("stopped", reason="by operator"), last_end=asked)


def test_what_could_not_be_seen_is_said_and_notes_are_kept() -> None:
    told = tell(None, death(), unseen="no daemon runs on /data.", notes=["This is what /data/logs/deaths.log tells."])
    assert told.startswith("How support is now can't be told: no daemon runs on /data.\n")
    assert "\n! This is what /data/logs/deaths.log tells.\n" in told


def test_failures_of_the_last_day_are_counted() -> None:
    assert "Failures in the last 24 h: crash 5 times, hang once." in tell(failures_24h={"hang": 1, "crash": 5})


# --- a death -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", list(Failure))
def test_every_class_of_failure_has_advice_and_is_told_in_words(failure: Failure) -> None:
    assert len(advice(failure.value)) > 20
    assert "\n" not in advice(failure.value)
    told = tell(bot("backoff"), death(failure=failure.value, cause=""))
    assert f"To do: {ADVICE[failure]}" in told
    said = told.split("(3 min ago): ")[-1].splitlines()[0]
    assert said.startswith(("it ", "its ", "the ", "Telegram ", "somebody "))


def test_the_operators_page_names_every_class() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## Why did it die?")[2].partition("\n## ")[0]
    assert {failure.value for failure in Failure} == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_a_class_of_a_newer_release_is_told_as_it_is() -> None:
    assert advice("melted") == advice(None) == ""
    assert "(3 min ago): melted\n" in tell(bot(), death(failure="melted", cause=""))


def test_a_death_tells_when_of_what_how_and_what_was_done() -> None:
    told = tell(bot(), death(failure="hang", exit="signal 9", cause="no heartbeat for 10 s", silent_for_s=10.2))
    assert told.splitlines()[1:] == [
        "",
        f"{local_time(NOW - 180)} (3 min ago): no heartbeat for 10 s",
        "  hang · killed by its supervisor · after 8 min · silent for 10 s · 38 MB",
        "  Then: restarted in 0.08 s",
        f"  To do: {ADVICE[Failure.HANG]}",
        "  It had written nothing to its log.",
    ]


def test_the_end_of_a_killed_daemon_is_told_without_guesses() -> None:
    told = tell(
        bot(),
        death(failure=None, exit="unknown", duration_s=None, cause="", action="", memory_mb=None, silent_for_s=None),
    )
    assert "nobody has seen how it ended" in told
    assert f"  it had begun {local_time(NOW - 700)}" in told
    assert "unknown" not in told


def test_five_lines_of_the_log_or_with_full_all_of_them() -> None:
    tail = [f"line {number}" for number in range(9)] + [""]
    short = tell(bot(), death(log_tail=tail))
    assert "    line 4\n    line 5\n    line 6\n    line 7\n    line 8\n" in short
    assert "line 3" not in short
    assert short.endswith("Shortened; --full shows all lines and stacks.")
    full = tell(bot(), death(log_tail=tail), full=True)
    assert "line 0" in full
    assert "Shortened" not in full


def test_structured_lines_are_told_without_their_braces_and_tracebacks_line_by_line() -> None:
    fields = {
        "timestamp": "2026-01-05T12:00:00Z", "level": "error", "logger": "l", "process": "bot a", "event": "it broke",
        "n": 1, "why": "no air", "bot": "a", "exception": 'Traceback:\n  File "h.py", line 3\nValueError: no',
    }  # fmt: skip
    line = json.dumps(fields)
    told = tell(bot(), death(log_tail=[line]))
    assert " error: it broke n=1 why=no air\n" in told
    assert told.splitlines()[-3:] == [
        "    Traceback:", '      File "h.py", line 3', "    ValueError: no",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["{", "{}", "[1]", '{"event":1}', '{"a":"b"}', "plain", '{"event":"x"} and more', '{"a":' * 2000]
)
def test_a_line_that_is_not_structured_is_told_as_it_is(line: str) -> None:
    assert readable(line) == [line]


def test_a_structured_line_with_a_strange_time_is_told_all_the_same() -> None:
    assert readable('{"event":"x","timestamp":5}') == ["info: x"]
    assert readable('{"event":"x","timestamp":"never","level":"debug"}') == ["debug: x"]


def test_a_cause_is_not_repeated_as_what_was_done() -> None:
    told = tell(bot(), death(cause="401 Unauthorized.", action="quarantined: 401 Unauthorized."))
    assert told.count("401") == 1
    assert "  Then: quarantined\n" in told


def test_what_stands_in_the_cause_is_not_told_again() -> None:
    lines = [
        '  File "/srv/shop.py", line 3, in sell',
        "    ^^^^^^^^",
        "the bot can't go on detail=KeyError: 'x' (/srv/shop.py:3)",
    ]
    told = tell(bot(), death(cause="KeyError: 'x' (/srv/shop.py:3)", log_tail=lines))
    assert "in sell" in told
    assert "can't go on" not in told
    assert "^^^" not in told
    assert "^^^" in tell(bot(), death(cause="KeyError: 'x'", log_tail=lines), full=True)
    many = tell(
        bot(),
        death(
            cause="3 failures within 60 s",
            action="quarantined: 4 failures within 60 s, the last: 3 failures within 60 s",
        ),
    )
    assert "Then: quarantined: 4 failures within 60 s\n" in many


@pytest.mark.parametrize("failure", ["hang", "not_ready", "protocol"])
def test_a_kill_that_was_the_supervisors_is_told_as_such(failure: str) -> None:
    assert f"{failure} · killed by its supervisor ·" in tell(bot(), death(failure=failure, exit="signal 9"))
    assert "signal · signal 9 ·" in tell(bot(), death(failure="signal", exit="signal 9"))


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("degraded", "redis is not reachable; events wait in the database", "botctl logs valkey"),
        ("degraded", "completion api: unreachable", "base_url"),
        ("degraded", "another process polls this bot (Conflict: …)", "revoke the token"),
        ("starting", "telegram asks us not to poll for 60 s", "goes on by itself"),
        ("degraded", "telegram is not reachable", "proxy, DNS"),
        ("degraded", "all handlers are stuck", "botctl restart"),
        ("degraded", "3 updates wait at Telegram, none was committed for 60 s", "webhook"),
        ("paused", "the database is away", "botctl logs postgres"),
        ("degraded", "the database keeps refusing work", "max_connections"),
    ],
)
def test_a_bot_in_trouble_is_told_what_to_do(state: str, reason: str, said: str) -> None:
    (todo,) = [line for line in tell(bot(state, reason=reason)).splitlines() if line.startswith("To do: ")]
    assert said in todo


def test_what_a_bot_prints_can_neither_colour_nor_move_nor_leave_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b31m\r\x08\u202eflipped"
    told = tell(
        bot(reason=evil), death(log_tail=[evil], cause=evil, action=evil, stacks=f"Thread 1:\n  {evil}"), notes=[evil]
    )
    assert not set(told) & {"\x1b", "\r", "\x08", "\x9b", "\x07", "\u202e"}
    assert "red" in told
    assert "title" not in told


def test_nothing_is_wider_than_the_terminal() -> None:
    told = tell(
        bot("backoff", reason="a reason of many words " * 10),
        death(log_tail=["x" * 500], cause="a cause of many words " * 10, stacks='Thread 1:\n  File "' + "y" * 500),
        width=60,
    )
    assert max(map(len, told.splitlines())) <= 60
    assert "…" in told


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 s"), (0.08, "0.08 s"), (0.0816, "0.0816 s"), (9.96, "9.96 s"), (12.7, "12 s"), (119.0, "119 s"),
     (120.0, "2 min"), (7200.0, "2 h"), (172_800.0, "2 days"), (-5.0, "0 s")],
)  # fmt: skip
def test_spans_in_words(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_ago_and_cut_and_printable() -> None:
    assert (ago(90.0, 100.0), ago(100.0, 100.2), ago(200.0, 100.0)) == ("10 s ago", "just now", "just now")
    assert (cut("abcdef", 6), cut("abcdef", 4)) == ("abcdef", "abc…")
    assert printable("a\tb\nc") == "a   b�c"
