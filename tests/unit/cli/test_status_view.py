"""What `botctl status` shows on a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from botctl.cli.status_view import table
from botctl.control.views import BotView, DaemonView, StatusBody

NOW = 1_800_000_000.0


def shown(*bots: BotView, **daemon: Any) -> list[str]:
    view = DaemonView(pid=1, state="running", version="9", uptime_s=10.0, **daemon)
    screen = Console(file=io.StringIO(), width=400, no_color=True, markup=False)
    screen.print(table(StatusBody(daemon=view, bots=list(bots)), NOW))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_the_open_breaker_stands_in_the_header() -> None:
    lines = shown(problems=["fleet breaker: 7 of 9 bots failed within 10 s, so restarts are held back"])
    assert "! fleet breaker: 7 of 9 bots failed within 10 s, so restarts are held back" in lines
    assert not any(line.startswith("!") for line in shown())


def test_a_rolling_restart_under_way_has_one_line() -> None:
    assert "rolling restart: wave 2 of 20: a running" in shown(rollout="wave 2 of 20: a running")
    assert not any("rolling restart" in line for line in shown())


def test_a_bot_that_runs_old_code_is_marked() -> None:
    old, new = shown(
        BotView(name="a", bot_id=1, state="running", code="0f3a"), BotView(name="b", bot_id=2, state="ok")
    )[-2:]
    assert old.endswith("old code (0f3a)")
    assert "code" not in new


def test_signals_have_names() -> None:
    reason = "6 failures within 60 s, the last: signal 11"
    assert shown(BotView(name="a", bot_id=1, state="quarantined", reason=reason))[-1].endswith("the last: SIGSEGV")
    died = BotView(name="a", bot_id=1, state="running", last_failure="hang", last_exit="signal 9")
    assert "last failure: hang (SIGKILL)" in shown(died)[-1]
