"""What `botctl status` shows on a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from botctl.cli.status_view import table
from botctl.control.views import BotView, DaemonView, ServiceView, StatusBody

NOW = 1_800_000_000.0


def shown(*bots: BotView, services: tuple[ServiceView, ...] = (), width: int = 400, **daemon: Any) -> list[str]:
    view = DaemonView(pid=1, state="running", version="9", uptime_s=10.0, **daemon)
    screen = Console(file=io.StringIO(), width=width, no_color=True, markup=False)
    screen.print(table(StatusBody(daemon=view, bots=list(bots), services=list(services)), NOW))
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
        BotView(name="a", bot_id=1, state="running", code="0f3a5b7c" * 4), BotView(name="b", bot_id=2, state="ok")
    )[-2:]
    assert old.endswith("old code (0f3a5b7c)")
    assert "code" not in new


def test_restarts_of_servers_are_shown() -> None:
    fresh = ServiceView(name="postgres", state="running", pid=5)
    again = ServiceView(name="valkey", state="running", pid=6, restarts=2)
    assert "postgres running (pid 5)  valkey running (pid 6, restarted twice)" in shown(services=(fresh, again))


def test_a_server_that_is_not_well_says_why_once() -> None:
    control = ServiceView(name="control", state="degraded", reason="redis: not looked at yet", pid=5)
    assert "! control is degraded: redis: not looked at yet" in shown(services=(control,))
    told = [line for line in shown(services=(control,), problems=["redis: not looked at yet"]) if line.startswith("!")]
    assert told == ["! redis: not looked at yet"]
    for state in ("running", "stopping"):
        well = control.model_copy(update={"state": state})
        assert not any(line.startswith("!") for line in shown(services=(well,)))


def test_what_was_commanded_holds_while_the_daemon_lives() -> None:
    stopped = BotView(name="a", bot_id=1, state="stopped", reason="by operator")
    assert shown(stopped)[-1].endswith("by operator, while this daemon lives")
    shut_away = BotView(name="a", bot_id=1, state="quarantined", reason="by operator", shut_away=True)
    assert shown(shut_away)[-1].endswith("by operator, until it is released")
    released = BotView(name="a", bot_id=1, state="stopped", reason="released")
    assert shown(released)[-1].endswith("stopped before it was released, while this daemon lives")
    for lasting in ({"state": "stopped", "enabled": False}, {"state": "quarantined"}):
        assert "daemon" not in shown(BotView(name="a", bot_id=1, reason="why", **lasting))[-1]


def test_signals_have_names() -> None:
    reason = "6 failures within 60 s, the last: signal 11"
    assert shown(BotView(name="a", bot_id=1, state="quarantined", reason=reason))[-1].endswith("the last: SIGSEGV")
    died = BotView(name="a", bot_id=1, state="running", last_failure="hang", last_exit="signal 9")
    assert "last failure: hang (SIGKILL)" in shown(died)[-1]
