"""With A's Redis login and raw bytes: every attack ends as its case declares, and otherwise where rights are wider."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest

from attack.cases import ATTACKS, CASES
from attack.redis import areas
from attack.redis.ground import AREA, WEAKENED, Ground

NAMES = [name for name, case in CASES.items() if case.area == AREA and name not in areas.floods.FLOODS]


def ends_as(outcome: str, must: str) -> bool:
    """Whether it ended as declared; what stands behind a semicolon explains."""
    return outcome == must.partition(";")[0]


@pytest.mark.parametrize("name", NAMES)
async def test_an_attack_ends_as_declared(ground: Ground, name: str) -> None:
    outcome = await ATTACKS[name](ground)
    assert ends_as(outcome, CASES[name].must), outcome


@pytest.mark.parametrize("name", [name for name in WEAKENED if name in NAMES])
async def test_an_attack_on_a_weakened_server_ends_otherwise(ground: Ground, name: str) -> None:
    """With a right that no bot has, given by the administrator."""
    for command in WEAKENED[name]:
        words = (
            [word.format(**ground.names) for word in command.split()] if "(" not in command else _rule(ground, command)
        )
        await ground.redis.execute_command(*words)
    try:
        outcome = await ATTACKS[name](ground)
    finally:
        password = unquote(urlsplit(ground.url).password or "")
        await ground.redis.execute_command("ACL", "SETUSER", "default", "resetpass", f">{password}")
    assert not ends_as(outcome, CASES[name].must), outcome


def _rule(ground: Ground, command: str) -> list[str]:
    """A selector is one word with blanks in it."""
    front, _, selector = command.partition("(")
    return [*(word.format(**ground.names) for word in front.split()), f"({selector}".format(**ground.names)]
