"""How many kills there are, what fails in between, and when: drawn from a seed, so that it can be done again. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Moment(Enum):
    """When a bot is killed."""

    RANDOM = "at any moment"
    BEFORE = "during a send, before Telegram has it"
    LATE = "during a send that Telegram gets only afterwards"
    AFTER = "during a send, after Telegram has it"


_MOMENTS = {Moment.RANDOM: 6, Moment.BEFORE: 1, Moment.LATE: 1, Moment.AFTER: 2}


@dataclass(frozen=True)
class Kill:
    """One bot by its index, after `pause` seconds."""

    bot: int
    moment: Moment
    pause: float


class Service(Enum):
    """What is done to a process that all need."""

    STOP = "stop"
    """Its own signal for an orderly end, from outside; the supervisor starts it again."""
    KILL = "kill"
    FLUSH = "flush"
    """It forgets everything while it runs."""
    LOSE = "lose"
    """Its files are taken away, and it is killed: it comes back empty."""


@dataclass(frozen=True)
class Fault:
    """Something fails. `service` and `how`: a process; else `rules` for the emulators.

    A rule is (emulator, method, fields of a fault as docs/sandbox.md has them).
    """

    name: str
    service: str = ""
    how: Service = Service.KILL
    rules: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()
    lasts: float = 0.0
    """Seconds for which the rules are in force."""


def _telegram(name: str, *methods: str, lasts: float = 4.0, **fields: Any) -> Fault:
    return Fault(name, rules=tuple(("telegram", method, fields) for method in methods), lasts=lasts)


def _completion(name: str, lasts: float = 3.0, **fields: Any) -> Fault:
    return Fault(name, rules=(("completion", "*", fields),), lasts=lasts)


_BROKEN_PROXY = "<html><body>502 Bad Gateway</body></html>"
_ALL = (
    Fault("PostgreSQL restarted", "postgres", Service.STOP),
    Fault("PostgreSQL killed", "postgres"),
    Fault("Valkey restarted", "valkey", Service.STOP),
    Fault("Valkey killed", "valkey"),
    Fault("Valkey emptied", "valkey", Service.FLUSH, lasts=2.0),
    Fault("Valkey's files lost", "valkey", Service.LOSE),
    Fault("control killed", "control"),
    Fault("supervisor killed", "supervisor"),
    _telegram("Telegram: 429", "sendMessage", retry_after=2, chance=0.3),
    _telegram("Telegram: 5xx", "sendMessage", "getUpdates", status=502, body=_BROKEN_PROXY, chance=0.5),
    _telegram("Telegram: time-outs", "sendMessage", hang=True, times=5),
    _telegram("Telegram: slow", "sendMessage", "editMessageText", delay=1.0, chance=0.5),
    _telegram("Telegram: connections cut", "*", cut=True, chance=0.3),
    _telegram("Telegram: answers lost", "sendMessage", cut=True, when="after", chance=0.3),
    _telegram(
        "Telegram: 409", "getUpdates", status=409, description="Conflict: terminated by other getUpdates request"
    ),
    _completion("completion API: 500", status=500),
    _completion("completion API: 429", status=429, retry_after=1, chance=0.5),
    _completion("completion API: cut", cut=True, chance=0.5),
    _completion("completion API: silent", hang=True, times=3),
)

FAULTS = {fault.name: fault for fault in _ALL}


@dataclass(frozen=True)
class Plan:
    """`kills` one after the other; before kill number k, `faults[k]` begins."""

    kills: Sequence[Kill]
    faults: Mapping[int, Fault] = field(default_factory=dict)


def draw(seed: int, bots: int, kills: int, *, pause: float, names: Sequence[str] = ()) -> Plan:
    """Faults come in shuffled rounds, evenly between the kills: each at least twice if there are 10 kills for each.

    `names`: only these, each once, in this order.
    """
    dice = random.Random(seed)  # a plan, no secret
    moments, weights = list(_MOMENTS), list(_MOMENTS.values())
    drawn = [
        Kill(dice.randrange(bots), dice.choices(moments, weights)[0], dice.uniform(0.2, 1.8) * pause)
        for _ in range(kills)
    ]
    wanted = list(names) or _rounds(dice, max(len(FAULTS) * 2 if kills >= len(FAULTS) * 10 else 1, kills // 12))
    places = [round((number + 0.5) * kills / len(wanted)) for number in range(len(wanted))]
    return Plan(drawn, {min(place, kills - 1): FAULTS[name] for place, name in zip(places, wanted, strict=True)})


def _rounds(dice: random.Random, number: int) -> list[str]:
    found: list[str] = []
    while len(found) < number:
        found += dice.sample(list(FAULTS), len(FAULTS))
    return found[:number]
