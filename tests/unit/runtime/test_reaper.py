"""When strangers are looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from botctl.runtime.children import Children
from botctl.runtime.reaper import Reaper


def reaper() -> tuple[Reaper, Any]:
    starter = SimpleNamespace(launching=False)
    launcher = SimpleNamespace(run="0123456789abcdef", forkserver_pids=frozenset())
    return Reaper(Children(), launcher, starter), starter  # type: ignore[arg-type]


def test_what_is_left_to_do_waits_for_a_launch_without_being_asked_for_at_once():
    """`behind` has the loop come back without a pause; a launch may take a minute."""
    made, starter = reaper()
    made.behind = True
    starter.launching = True
    made.reap()
    assert (made.behind, made.due) == (False, True)


def test_whom_a_tracer_holds_is_looked_at_again_with_the_next_ones_and_once_a_second():
    made, starter = reaper()
    looked: list[str] = []
    child = SimpleNamespace(record=SimpleNamespace(pid=None))
    made.held(child, lambda: looked.append("again"))  # type: ignore[arg-type]
    made.look_again()
    assert made.due
    starter.launching = True
    made.reap()
    made.reap()
    assert looked == ["again"]
