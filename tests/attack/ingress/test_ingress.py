"""Every attack on the ingress ends as it must."""

from __future__ import annotations

import inspect

import pytest

from attack.cases import ATTACKS, CASES
from attack.ingress import strangers
from support.ingress_stage import IngressStage

NAMES = [name for name, case in CASES.items() if case.area == strangers.AREA]


def test_there_are_attacks() -> None:
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
async def test_it_ends_as_it_must(name: str, stage: IngressStage) -> None:
    outcome = ATTACKS[name](stage)
    assert inspect.isawaitable(outcome)
    assert await outcome == CASES[name].must
