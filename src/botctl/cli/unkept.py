"""Limits of the fleet file that need control groups, where the daemon has none: nobody is to rely on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from botctl.runtime import cgroup_files

if TYPE_CHECKING:
    from botctl.fleet import Fleet

CONTROLLERS = {"cpu": "cpu", "processes": "pids"}
"""Limits that nothing else keeps, and the kernel's controllers of them."""

NAMED = 5

HINT = "Have systemd run the daemon with Delegate=yes, as config/systemd has it; or take the limits out."

Wish = tuple[str, float, int]
"""A bot's name, `limits.cpu` and `limits.processes`."""


def wishes(fleet: Fleet) -> list[Wish]:
    """What a fleet asks for."""
    return [(bot.name, bot.limits.cpu, bot.limits.processes) for bot in fleet.bots]


def wishes_in(document: bytes) -> list[Wish]:
    """The same of a fleet that is still JSON, for the daemon, which knows no models."""
    bots = json.loads(document).get("bots", ())
    limits = [(bot["name"], bot.get("limits", {})) for bot in bots]
    return [(name, one.get("cpu", 0.0), one.get("processes", 0)) for name, one in limits]


def unkept(bots: Iterable[Wish], kept: Collection[str]) -> str:
    """Which limits of which bots are not kept, in one line, with these controllers; empty when all are."""
    found: dict[str, list[str]] = {}
    for name, cpu, processes in bots:
        for limit, value in (("cpu", cpu), ("processes", processes)):
            if value and CONTROLLERS[limit] not in kept:
                found.setdefault(limit, []).append(name)
    if not found:
        return ""
    parts = [f"limits.{limit} of {_named(names)}" for limit, names in found.items()]
    needed = " and ".join(CONTROLLERS[limit] for limit in found)
    return f"not kept, for want of control groups ({needed}): {'; '.join(parts)}"


def possible(root: Path = Path("/")) -> frozenset[str]:
    """Controllers that a daemon started from here could have at best. It may have fewer: it says so when it starts."""
    own = cgroup_files.own_group(
        cgroup_files.text(root / "proc/self/mountinfo"), cgroup_files.text(root / "proc/self/cgroup")
    )
    if own is None:
        return frozenset()
    folder = root / own.relative_to("/")
    # A service has a group of its own: what the top of the hierarchy offers may be given to it.
    tops = [folder, *folder.parents]
    offered = " ".join(cgroup_files.text(top / "cgroup.controllers") for top in tops)
    return frozenset(offered.split())


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
