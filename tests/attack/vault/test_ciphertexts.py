"""Every declared attack on sealed values is refused."""

from __future__ import annotations

import pytest

from attack.cases import ATTACKS, CASES
from attack.vault import ciphertexts

MINE = sorted(name for name, case in CASES.items() if case.area == ciphertexts.AREA)


def test_they_are_declared() -> None:
    assert len(MINE) == 6


@pytest.mark.parametrize("name", MINE)
def test_it_ends_as_it_must(name: str) -> None:
    assert ATTACKS[name]() == CASES[name].must
