"""The faults there are, and what each of them must lead to. Values only; `injection` performs them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Way(Enum):
    """How a fault is brought about."""

    INSIDE = "inside"
    """The bot is told to do it to itself, by a message."""
    OUTSIDE = "outside"
    """A signal to the bot."""
    HOPELESS = "hopeless"
    """Something that no restart mends; it is mended, and the bot released, when the bot is in quarantine."""
    SERVICE = "service"
    """A process that all bots need; there may be a victim beside it."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    `failure`, `exit`: of each death it causes; without `failure` nobody may die. `deaths`: how many at least.
    `stacks`: must stand in the stacks of the death. `buried`: the message that brings it about becomes a dead letter.
    `leaves`: it leaves processes that must be ended. `holds`: seconds during which its effect lasts by itself.
    """

    name: str
    way: Way
    failure: str = ""
    exit: str = ""
    deaths: int = 1
    stacks: str = ""
    told: str = ""
    buried: bool = False
    leaves: bool = False
    holds: float = 0.0
    victim: bool = True
    weight: int = 1


_ALL = (
    Fault("block_sleep", Way.INSIDE, "hang", "signal 9", stacks="in stand_still"),
    Fault("block_loop", Way.INSIDE, "hang", "signal 9", stacks="in go_round"),
    Fault("block_c", Way.INSIDE, "hang", "signal 9", stacks="in backtrack"),
    Fault("memory_fast", Way.INSIDE, "memory"),
    Fault("memory_slow", Way.INSIDE, "memory"),
    Fault("cpu_threads", Way.INSIDE, deaths=0, holds=7.0),
    Fault("cpu_processes", Way.INSIDE, "crash", "exit 9", leaves=True),
    Fault("forks", Way.INSIDE, "crash", "exit 7", leaves=True),
    Fault("descriptors", Way.INSIDE, deaths=0, holds=7.0),
    Fault("flood_output", Way.INSIDE, deaths=0, holds=7.0),
    Fault("exit_0", Way.INSIDE, "exit", "exit 0"),
    Fault("exit_7", Way.INSIDE, "crash", "exit 7"),
    Fault("segfault", Way.INSIDE, "crash", "signal 11", stacks="in segfault"),
    Fault("abort", Way.INSIDE, "crash", "signal 6", stacks="in abort"),
    Fault("raising", Way.INSIDE, deaths=0, buried=True),
    Fault("poison", Way.INSIDE, "crash", "exit 7", deaths=3, buried=True),
    Fault("threads_left", Way.INSIDE, deaths=0),
    Fault("kill", Way.OUTSIDE, "signal", "signal 9", weight=2),
    Fault("term", Way.OUTSIDE, "signal", "signal 15"),
    Fault("stop", Way.OUTSIDE, "hang", "signal 9", told="stopped"),
    Fault("stop_and_cont", Way.OUTSIDE, deaths=0, holds=1.5),
    Fault("bad_token", Way.HOPELESS, "bad_token"),
    Fault("bad_code", Way.HOPELESS, "code"),
    Fault("crash_loop", Way.HOPELESS, "crash", "exit 5"),
    Fault("forkserver_kill", Way.SERVICE, "signal", "signal 9"),
    Fault("forkserver_stop", Way.SERVICE, "signal", "signal 9", holds=5.0),
    Fault("control_kill", Way.SERVICE, deaths=0, victim=False),
    Fault("valkey_kill", Way.SERVICE, deaths=0, victim=False),
    Fault("postgres_kill", Way.SERVICE, deaths=0, victim=False),
)

FAULTS = {fault.name: fault for fault in _ALL}

HEAVY = frozenset({"poison", "crash_loop"})
"""Those that use up most of a bot's restart intensity: two within its period would put the bot in quarantine."""

OTHERS = {"bad_code": {"signal"}, "crash_loop": {"signal"}, "cpu_threads": {"hang"}}
"""Classes that may stand beside the expected one: the kill that makes a bot read its broken handlers; and where cores
are short, four computing threads may keep the loop's thread from its turn for longer than a heartbeat may be late."""
