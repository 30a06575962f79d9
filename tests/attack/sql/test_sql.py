"""With A's login and raw SQL: every attack ends as its case declares, and otherwise where the database is weakened."""

from __future__ import annotations

import pytest

from attack.cases import ATTACKS, CASES
from attack.sql import rights, rows, server
from attack.sql.ground import AREA, NO_ROW, NOTHING, WEAKENED, Ground

AREAS = (rows, rights, server)
NAMES = [name for name, case in CASES.items() if case.area == AREA]


def ends_as(outcome: str, must: str) -> bool:
    """Whether it ended as declared; what stands behind a semicolon explains."""
    wanted = must.partition(";")[0]
    if wanted == "succeeds":
        return not outcome.startswith(("refused", NO_ROW, NOTHING))
    return outcome == wanted


@pytest.mark.parametrize("name", NAMES)
async def test_an_attack_ends_as_declared(ground: Ground, name: str) -> None:
    outcome = await ground.outcome(ATTACKS[name])
    assert ends_as(outcome, CASES[name].must), outcome


@pytest.mark.parametrize("name", list(WEAKENED))
async def test_an_attack_on_a_weakened_database_ends_otherwise(ground: Ground, name: str) -> None:
    """In a transaction that is undone, the superuser weakens the database and becomes A."""
    ground.me = await ground.open(ground.admin)
    undone = ground.me.transaction()
    await undone.start()
    for weakening in WEAKENED[name]:
        await ground.me.execute(weakening)
    await ground.me.execute(f"SET LOCAL SESSION AUTHORIZATION bot_{ground.a}")
    outcome = await ground.outcome(ATTACKS[name])
    await undone.rollback()
    assert not ends_as(outcome, CASES[name].must), outcome
