"""What a server may have lost, from its run, its marker and its beat."""

from __future__ import annotations

import pytest

from botctl.bus.caretaking.identity import LATEST, Last, Loss, Sight, loss

NOW, UP = 1_000_000.0, 5_000.0
KNOWN = Sight("run", "marker", NOW - 1, "run")
LAST = Last(KNOWN, UP - 1, NOW - 1)


@pytest.mark.parametrize(
    ("sight", "last", "expected"),
    [
        (KNOWN, LAST, None),
        (KNOWN, None, None),  # control began anew, the server ran on
        (Sight("run"), None, Loss(None, empty=True)),
        (Sight("run"), LAST, Loss(1.0, empty=True)),
        (Sight("run"), Last(KNOWN, UP - 7_200, NOW - 7_200), Loss(7_200.0, empty=True)),
        (Sight("run"), Last(KNOWN, UP - 60, NOW - 7_200), Loss(7_200.0, empty=True)),  # the machine has slept
        (Sight("run", "other", NOW - 1, "run"), LAST, Loss(1.0, empty=True)),
        (Sight("new", "marker", NOW - 1, "run"), LAST, Loss(1 + LATEST)),  # killed, nothing lost but what was under way
        (Sight("new", "marker", NOW - 600, "run"), LAST, Loss(600 + LATEST)),  # an old dump
        (Sight("new", "marker", NOW - 600, "run"), None, Loss(600 + LATEST)),  # the same, and nobody has seen it
        (Sight("run", "marker", NOW - 600, "run"), LAST, Loss(600 + LATEST)),  # gone back without a restart
        (Sight("new", "marker", NOW + 60, "run"), None, Loss(None)),  # the clock was set back
        (Sight("new", "marker", NOW + 60, "run"), Last(KNOWN, UP - 300, NOW + 90), Loss(330 + LATEST)),
        (Sight("run", "marker"), None, None),  # a marker of a daemon before this one
        (Sight("new", "marker"), LAST, Loss(1 + LATEST)),
    ],
)
def test_a_loss_is_seen_and_how_far_it_goes_back(sight: Sight, last: Last | None, expected: Loss | None) -> None:
    assert loss(sight, last, NOW, UP) == expected
