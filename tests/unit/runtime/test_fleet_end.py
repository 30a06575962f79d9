"""When a fleet counts as lost, and how it is put into words."""

from __future__ import annotations

import pytest

from botctl.runtime.fleet_end import lost_fleet
from botctl.runtime.notify import fleet_words
from botctl.supervision.model import Record, State


def bot(state: State, *, wanted: bool = True, shut_away: bool = False) -> Record:
    return Record(1, state=state, wanted=wanted, shut_away=shut_away, reason="the token is refused")


FAILED = bot(State.QUARANTINED)


def test_a_fleet_is_lost_when_every_wanted_bot_is_quarantined() -> None:
    reasons = {"a": "the token is refused", "b": "the token is refused"}
    assert lost_fleet({"a": FAILED, "b": FAILED}) == reasons
    assert lost_fleet({"a": FAILED, "b": FAILED, "c": bot(State.STOPPED, wanted=False)}) == reasons
    assert lost_fleet({"a": FAILED, "b": FAILED, "c": bot(State.QUARANTINED, shut_away=True)}) == reasons


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUARANTINED])
def test_one_that_may_still_work_is_hope(state: State) -> None:
    assert lost_fleet({"a": FAILED, "b": bot(state)}) == {}


@pytest.mark.parametrize(
    "bots",
    [
        {},
        {"a": bot(State.STOPPED, wanted=False)},
        {"a": bot(State.QUARANTINED, wanted=False)},
        {"a": bot(State.QUARANTINED, shut_away=True)},
    ],
)
def test_what_nobody_wants_or_an_operator_shut_away_is_no_failure(bots: dict[str, Record]) -> None:
    assert lost_fleet(bots) == {}


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({}, "no bots"),
        ({"running": 1}, "1 bot: 1 running"),
        ({"quarantined": 1, "running": 11}, "12 bots: 11 running, 1 quarantined"),
        ({"backoff": 2, "running": 0, "starting": 3}, "5 bots: 3 starting, 2 backoff"),
    ],
)
def test_a_fleet_in_one_line(states: dict[str, int], words: str) -> None:
    assert fleet_words(states) == words
