"""What an operator's command means for a bot, and for a fleet."""

from __future__ import annotations

import pytest

from botctl.supervision import commands
from botctl.supervision.events import Quarantine, Release, Restart, Unwant, Want
from botctl.supervision.model import Record, State


@pytest.mark.parametrize(
    ("verb", "event"),
    [
        ("start", Want()),
        ("stop", Unwant("stopped by operator")),
        ("restart", Restart("restarted by operator")),
        ("release", Release()),
        ("quarantine", Quarantine("quarantined by operator")),
    ],
)
def test_every_command_has_a_meaning(verb: str, event: object):
    assert commands.meaning(verb) == event
    assert verb in commands.VERBS


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_quarantined_bot_is_released_and_not_started(verb: str):
    record = Record(1, state=State.QUARANTINED, reason="6 failures")
    assert commands.refusal(verb, "sales", record) == "sales is quarantined (6 failures); release it instead"
    assert commands.refusal("release", "sales", record) is None
    assert commands.refusal(verb, "sales", Record(1, state=State.STOPPED)) is None


@pytest.mark.parametrize(
    ("verb", "wanted", "enabled", "concerned"),
    [
        ("start", False, True, True),
        ("start", False, False, False),
        ("restart", True, True, True),
        ("restart", False, True, False),
        ("restart", True, False, True),
        ("stop", False, False, True),
        ("release", False, True, True),
    ],
)
def test_a_command_for_all_is_meant_for_those_it_makes_sense_for(verb, wanted, enabled, concerned):
    assert commands.concerns_all(verb, Record(1, wanted=wanted), enabled) is concerned
