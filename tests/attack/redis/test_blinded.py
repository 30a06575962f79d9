"""Attacks on one's own stream end otherwise where the router doesn't look: each guard is taken away once."""

from __future__ import annotations

from typing import Any

import pytest

from attack.cases import ATTACKS, CASES
from attack.redis import areas
from attack.redis.ground import Ground
from attack.redis.test_redis import ends_as
from botctl.bus.caretaking.losses import Losses
from botctl.bus.caretaking.out_streams import OutStreams
from botctl.bus.routing import batcher
from botctl.bus.routing.seen import Seen


def _nothing(*_: Any, **__: Any) -> Any:
    return None


async def _nothing_async(*_: Any, **__: Any) -> Any:
    return None


GUARDS: dict[str, tuple[Any, str, Any]] = {
    "forged_source": (batcher, "_stamped", lambda event, bot_id: event),
    "forged_id": (Seen, "__contains__", lambda seen, key: key[1] in {one for _, one in seen.__dict__["ids"]}),
    "coming_ids": (batcher, "may_use", lambda bot_id, event_id: True),
    "fleets_types": (batcher, "validate", lambda event, source: event),
    "cut": (Losses, "compare", _nothing),
    "brick": (OutStreams, "_replace", _nothing_async),
    "brick_empty": (OutStreams, "check", _nothing_async),
}
"""Of an attack by its function's name: the guard, and what stands in its place."""


@pytest.mark.parametrize("function", GUARDS)
async def test_an_attack_on_a_blind_router_ends_otherwise(
    ground: Ground, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(name for name, one in ATTACKS.items() if one is getattr(areas.own_stream, function))
    monkeypatch.setattr(*GUARDS[function])
    if function == "forged_id":
        monkeypatch.setattr(Seen, "add", lambda seen, keys: seen.__dict__.setdefault("ids", []).extend(keys))
        ground.router._rounds.seen.__dict__["ids"] = []
    try:
        outcome = await ATTACKS[name](ground)
    except AssertionError as error:
        outcome = str(error)
    assert not ends_as(outcome, CASES[name].must), outcome
