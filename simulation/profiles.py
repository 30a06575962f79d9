"""What a schedule is made of: the fleet's policies and how often each fault happens. Everything is drawn from the seed.

All durations are multiples of the schedule's tick, so that what can happen at the same moment does, and every `<` in
supervision meets its equality.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from botctl.supervision.breaker import BreakerPolicy
from botctl.supervision.model import Policy
from botctl.supervision.pacing import Pace

TICKS = (1 / 64, 1 / 8, 1 / 4, 1 / 4)


@dataclass(frozen=True)
class Profile:
    """`faults` are weights of what the storyteller does next, `fates` of what becomes of a new process.

    `rate` is the storyteller's deeds per shortest heartbeat timeout; `late` how often a wake-up is late.
    """

    name: str
    rate: float
    faults: dict[str, float] = field(default_factory=dict)
    fates: dict[str, float] = field(default_factory=dict)
    late: float = 0.05
    slow_launcher: float = 0.0
    refuses: float = 0.0
    """Share of processes that don't end when they are asked to."""
    flapping: float = 0.0
    """Share of the bots that fail every time, by a fault of their own."""


CALM = Profile(
    "calm",
    2.0,
    {"crash": 3, "kill": 2, "exit": 1, "hang": 1, "command": 3, "fleet": 1, "hear": 1, "mood": 2, "hold": 0.3},
    {"well": 20, "die early": 1, "words": 1},
)
STORM = Profile(
    "storm",
    3.0,
    {"crash all": 3, "crash": 4, "oom": 2, "database": 2, "network": 2, "forkserver": 1, "command": 2, "hang all": 0.5,
     "farewell": 1, "hold": 0.5, "fleet": 0.5, "storm": 2},
    {"well": 10, "die early": 3, "words": 1, "never ready": 1},
)  # fmt: skip
FLAPPING = Profile(
    "flapping",
    2.0,
    {"crash": 6, "exit": 2, "kill": 2, "words": 3, "command": 3, "release": 3, "fleet": 1, "hold": 0.3, "stray": 2,
     "give up": 2},
    {"well": 6, "die early": 6, "words": 3},
    flapping=0.3,
)  # fmt: skip
SLOW = Profile(
    "slow",
    2.5,
    {"crash": 3, "kill": 2, "hang": 2, "stop": 2, "continue": 2, "hold": 3, "long hold": 0.6, "launcher": 2,
     "forkserver": 2, "command": 5, "descriptors": 1, "stray": 2, "crash all": 0.5, "hear": 1,
     "farewell": 0.5},
    {"well": 5, "slow": 6, "never ready": 3, "die early": 1},
    late=0.3,
    slow_launcher=0.4,
    refuses=0.4,
)  # fmt: skip
COMMANDS = Profile(
    "commands",
    5.0,
    {"command": 12, "all": 2, "fleet": 5, "policy": 2, "hear": 1, "crash": 2, "limits": 1, "twice": 3, "release": 2,
     "stray": 2, "hang": 0.5},
    {"well": 10, "slow": 2, "die early": 1, "words": 1},
    refuses=0.2,
    slow_launcher=0.1,
)  # fmt: skip
LEAKS = Profile(
    "leaks",
    1.5,
    {
        "leak": 3,
        "busy": 3,
        "command": 2,
        "hear": 5,
        "fleet": 1,
        "policy": 1,
        "mood": 2,
        "crash": 1,
        "hold": 0.3,
        "again": 1,
        "words": 0.5,
        "abuse": 0.5,
    },
    {"well": 10, "leak": 4, "busy": 4},
    refuses=0.1,
)
EVERYTHING = Profile(
    "everything",
    4.0,
    {"crash": 4, "kill": 2, "oom": 1, "exit": 1, "hang": 2, "stop": 1, "continue": 1, "words": 2, "abuse": 2, "leak": 1,
     "busy": 1, "mood": 3, "database": 0.6, "network": 0.6, "storm": 0.4, "crash all": 0.6, "hang all": 0.2,
     "forkserver": 0.6, "launcher": 0.6, "descriptors": 0.4, "command": 5, "all": 0.5, "twice": 1, "fleet": 2,
     "policy": 1, "hear": 3, "limits": 0.5, "release": 2, "stray": 3, "hold": 0.7, "long hold": 0.2, "lose": 1,
     "double": 2, "again": 1, "control": 0.3,
     "farewell": 0.5, "give up": 1},
    {"well": 8, "slow": 2, "die early": 2, "words": 2, "never ready": 1, "leak": 1, "busy": 1},
    late=0.1,
    slow_launcher=0.15,
    refuses=0.2,
    flapping=0.1,
)  # fmt: skip

PROFILES = (CALM, STORM, FLAPPING, SLOW, COMMANDS, LEAKS, EVERYTHING, EVERYTHING)


@dataclass(frozen=True)
class Setting:
    """The fixed part of one schedule."""

    profile: Profile
    tick: float
    keys: tuple[int, ...]
    pace: Pace
    breaker: BreakerPolicy
    base: Policy
    ends_with_shutdown: bool
    set_up: bool
    events: int
    """Events after which the faults end."""


def ticks(value: float, tick: float) -> float:
    """The duration as a multiple of the tick, and at least one."""
    return max(1, round(value / tick)) * tick


def draw_policy(random: Random, tick: float, limits: bool) -> Policy:
    """A policy of short durations: what matters is their order, which varies too."""
    choice, number = random.choice, random.random
    heartbeat = choice((1.5, 2.0, 3.0, 5.0, 8.0))
    first = choice((0.05, 0.1, 0.25, 0.5, 1.0))
    return Policy(
        intensity=choice((0, 1, 2, 3, 3, 5, 5, None)),
        period=ticks(choice((4.0, 10.0, 20.0, 60.0)), tick),
        first_delay=ticks(first, tick),
        max_delay=ticks(first * choice((1.0, 3.0, 8.0, 16.0)), tick),
        stop_timeout=ticks(choice((0.5, 1.0, 2.0, 4.0)), tick),
        term_timeout=ticks(choice((0.25, 0.5, 2.0)), tick),
        kill_timeout=ticks(choice((0.25, 0.5, 1.0)), tick),
        dump_timeout=ticks(choice((0.0625, 0.2, 0.5, 2.0)), tick),
        ready_timeout=ticks(choice((1.5, 3.0, 6.0, 12.0)), tick),
        heartbeat_timeout=ticks(heartbeat, tick),
        memory_soft=100.0 if limits or number() < 0.15 else 0.0,
        max_age=ticks(choice((8.0, 20.0, 40.0)) * heartbeat, tick) if limits and number() < 0.6 else 0.0,
        max_updates=choice((20, 50, 200)) if limits and number() < 0.6 else 0,
    )


def draw(random: Random) -> Setting:
    """The fixed part of the schedule of this seed."""
    choice, number = random.choice, random.random
    profile = choice(PROFILES)
    tick = choice(TICKS)
    pace = Pace(at_once=choice((1, 1, 2, 3, 8)), turn_timeout=ticks(choice((0.5, 1.0, 2.0, 5.0)), tick))
    if number() < 0.15:
        breaker = BreakerPolicy()
    else:
        pause = choice((0.25, 0.5, 1.0))
        breaker = BreakerPolicy(
            window=ticks(choice((1.0, 3.0, 10.0, 40.0)), tick),
            share=choice((0.2, 1 / 3, 0.5, 0.75)),
            least=choice((2, 3, 3, 4)),
            first_pause=ticks(pause, tick),
            max_pause=ticks(pause * choice((1.0, 3.0, 8.0)), tick),
            settle=ticks(choice((0.25, 1.0, 2.0)), tick),
            patience=ticks(choice((2.0, 4.0, 8.0)), tick),
            stagger=ticks(choice((0.0625, 0.25, 0.5)), tick),
            calm=ticks(choice((3.0, 10.0, 60.0)), tick),
            doubt_after=choice((1, 2, 3, 4)),
        )
    limits = profile is LEAKS or (profile is EVERYTHING and number() < 0.5)
    base = Policy() if number() < 0.03 else draw_policy(random, tick, limits)
    shutdown = number() < 0.15
    return Setting(
        profile=profile,
        tick=tick,
        keys=tuple(random.sample(range(100, 1000), choice((5, 5, 6, 7, 8)))),
        pace=pace,
        breaker=breaker,
        base=base,
        ends_with_shutdown=shutdown,
        set_up=number() < 0.1,
        events=205 if shutdown else choice((110, 130, 150, 170)),
    )
