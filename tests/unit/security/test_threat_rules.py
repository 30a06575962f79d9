"""Each rule by itself: what it says of what it is for, and that it keeps silent otherwise."""

from __future__ import annotations

import pytest

from botctl.fleet.threats import KNOWN
from botctl.security.threat.observations import (
    BadEvents,
    DeniedRedis,
    Flow,
    LoginMended,
    Observation,
    SecretsHeldBack,
    Target,
    Volume,
)
from botctl.security.threat.rules import RULES, Sight, judge

NOW = 1_800_000_000.0

SEEN: dict[str, tuple[Observation, float | None, float, str]] = {
    "cross_bot_redis": (
        DeniedRedis(at=NOW, bot_id=7, command="xadd", target=Target.FOREIGN, key="n:bus:bot:8:out", count=2),
        None,
        0,
        "tried xadd on n:bus:bot:8:out, which is not its own, 2 times",
    ),
    "denied_redis": (
        DeniedRedis(at=NOW, bot_id=7, command="config", target=Target.POWER),
        None,
        2,
        "tried config, which no bot may use, once",
    ),
    "login_mended": (
        LoginMended(at=NOW, bot_id=7),
        None,
        10,
        "changed the password or the settings of its own database login; they were put back",
    ),
    "secret_in_message": (
        SecretsHeldBack(at=NOW, bot_id=7, count=1),
        None,
        4,
        "1 message with a token or key in it held back",
    ),
    "bad_events": (
        BadEvents(at=NOW, bot_id=7, count=2, reason="no event"),
        None,
        2,
        "published 2 events that were refused: no event",
    ),
    "message_rate": (
        Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=100, span=10),
        40.0,
        1,
        "600 messages a minute, where at most 40 are usual for it at this hour",
    ),
    "spend_rate": (
        Volume(at=NOW, bot_id=7, flow=Flow.SPEND, count=100, span=60),
        40.0,
        1,
        "100 completions a minute, where at most 40 are usual for it at this hour",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_speaks_of_what_it_is_for_and_of_nothing_else(rule: object) -> None:
    for name, (observation, limit, weight, words) in SEEN.items():
        signal = judge(rule, Sight(observation, limit), rule.weight)  # type: ignore[arg-type, attr-defined]
        if name == rule.name:  # type: ignore[attr-defined]
            assert signal is not None
            assert (signal.weight, signal.explanation) == (weight, words)
            assert signal.hard is (weight == 0)
        else:
            assert signal is None


def test_every_rule_is_tried_here() -> None:
    assert SEEN.keys() == {rule.name for rule in RULES} == KNOWN


@pytest.mark.parametrize(
    ("observation", "limit"),
    [
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=1000, span=10), None),
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=10, span=60), 40.0),
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=10, span=0), 40.0),
        (SecretsHeldBack(at=NOW, bot_id=7, count=0), None),
        (BadEvents(at=NOW, bot_id=7, count=0), None),
    ],
)
def test_nothing_is_said_without_a_reason(observation: Observation, limit: float | None) -> None:
    assert all(judge(rule, Sight(observation, limit), rule.weight) is None for rule in RULES)


def test_what_an_attacker_writes_stays_on_one_short_line() -> None:
    seen = DeniedRedis(at=NOW, bot_id=7, command="xadd", target=Target.FOREIGN, key="a\nb\x1b[31m" + "k" * 5000)
    said = [signal for rule in RULES if (signal := judge(rule, Sight(seen), rule.weight))]
    assert len(said) == 1
    assert said[0].explanation.isprintable()
    assert len(said[0].explanation) < 200
