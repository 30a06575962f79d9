"""Who is deaf: a table of what two and more looks say."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.control.watching.deafness import Ears, Look, Word

PATIENCE = 45.0
HEARS = Word(False)
DEAF = Word(True, "12 updates wait at Telegram, none was committed for 60 s")


def look(at: float, pending: int = 12, **more: Any) -> Look:
    given: dict[str, Any] = {"state": "running", "incarnation": 1, "committed_at": -1000.0} | more
    return Look(at=at, pending=pending, **given)


def words(*looks: Look) -> list[Word | None]:
    ears = Ears(PATIENCE)
    return [ears.look(1, one) for one in looks]


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        pytest.param([look(0), look(60)], [None, DEAF], id="what waits goes on waiting"),
        pytest.param([look(0, 3), look(60, 12)], [None, DEAF], id="more and more waits"),
        pytest.param([look(0, state="degraded"), look(60)], [None, DEAF], id="a degraded bot should take updates too"),
        pytest.param([look(0), look(60, 11)], [None, None], id="fewer wait: somebody takes them"),
        pytest.param([look(0), look(44)], [None, None], id="two looks too soon after each other"),
        pytest.param(
            [look(0), look(30), look(50)], [None, None, Word(True, DEAF.reason.replace("60", "50"))], id="sum"
        ),
        pytest.param([look(0, 0)], [HEARS], id="nothing waits"),
        pytest.param([look(0, 0), look(60, 0)], [HEARS, None], id="told once"),
        pytest.param([look(0), look(60, committed_at=1.0)], [None, HEARS], id="slow, but it commits"),
        pytest.param(
            [look(0), look(60, committed_at=30.0), look(120, committed_at=90.0)],
            [None, HEARS, None],
            id="slow for long",
        ),
        pytest.param(
            [look(0), look(60, committed_at=30.0), look(120, committed_at=30.0)],
            [None, HEARS, DEAF],
            id="stops at last",
        ),
        pytest.param([look(0, committed_at=None), look(60, committed_at=None)], [None, None], id="nobody knows yet"),
        pytest.param([look(0, held=True), look(60, held=True)], [None, None], id="Telegram told it to wait"),
        pytest.param([look(0), look(60, held=True), look(120)], [None, None, None], id="told to wait in between"),
        pytest.param([look(0), look(60, incarnation=2)], [None, None], id="a new incarnation has all its time"),
        pytest.param([look(0), look(60, incarnation=2), look(120, incarnation=2)], [None, None, DEAF], id="deaf again"),
        pytest.param([look(0), look(60), look(120, 0)], [None, DEAF, HEARS], id="hears again: nothing waits"),
        pytest.param([look(0), look(60), look(120, committed_at=70.0)], [None, DEAF, HEARS], id="hears again: commits"),
        pytest.param([look(0, 0), look(60), look(120), look(180, 0)], [HEARS, None, DEAF, HEARS], id="there and back"),
        pytest.param([look(0), look(60), look(120, 3)], [None, DEAF, None], id="fewer wait is no proof of hearing"),
        pytest.param(
            [look(0), look(60), look(120)],
            [None, DEAF, Word(True, DEAF.reason.replace("60", "120"))],
            id="told at each probe",
        ),
        pytest.param(
            [look(0, 1), look(60, 1)],
            [None, Word(True, "1 update waits at Telegram, none was committed for 60 s")],
            id="one update",
        ),
    ],
)
def test_verdicts(looks: list[Look], told: list[Word | None]) -> None:
    assert words(*looks) == told


@pytest.mark.parametrize(
    "state", ["configured", "starting", "paused", "stopping", "stopped", "failed", "backoff", "quarantined"]
)
def test_who_does_not_listen_is_not_deaf(state: str) -> None:
    assert words(look(0, state=state), look(60, state=state)) == [None, None]
    assert words(look(0), look(60, state=state), look(120)) == [None, None, None]
    assert words(look(0, 0, state=state)) == [None], "and nobody says that it hears"


@pytest.mark.parametrize(("state", "incarnation"), [("paused", 1), ("starting", 2), ("running", 2)])
def test_what_a_glance_sees_between_two_looks_counts(state: str, incarnation: int) -> None:
    ears = Ears(PATIENCE)
    ears.look(1, look(0))
    assert ears.suspicious
    ears.glance(1, state, incarnation)
    assert not ears.suspicious
    assert ears.look(1, look(60)) is None


def test_a_glance_at_a_bot_that_listens_changes_nothing() -> None:
    ears = Ears(PATIENCE)
    ears.look(1, look(0))
    ears.glance(1, "degraded", 1)
    assert ears.look(1, look(60)) == DEAF


def test_each_bot_has_ears_of_its_own() -> None:
    ears = Ears(PATIENCE)
    ears.look(1, look(0))
    ears.look(2, look(0, 0))
    assert ears.look(2, look(60)) is None
    assert ears.look(1, look(60)) == DEAF
    ears.keep_only({2})
    assert ears.look(1, look(120)) is None, "a bot that was gone begins anew"


def test_a_webhook_is_named_by_its_host_and_never_by_its_path() -> None:
    ears = Ears(PATIENCE)
    ears.look(1, look(0))
    word = ears.look(1, look(60, webhook="https://hooks.example.org:8443/bot1:SECRET?key=SECRET"))
    assert word is not None
    assert word.reason.endswith("; a webhook is set at Telegram, to hooks.example.org, so that polling brings nothing")
