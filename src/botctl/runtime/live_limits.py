"""Gives a bot new limits while it runs, as far as the kernel allows it.

It never restarts a bot; it says where that is needed.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botctl.runtime import cgroup_files, linux
from botctl.runtime.cgroups import Cgroups
from botctl.runtime.children import Child, Limits
from botctl.runtime.starter import hard_by_rlimit
from botctl.supervision.model import HAS_PROCESS


class LiveLimits:
    """`groups` keeps the limits for which it has controllers; the others are the process's own."""

    def __init__(self, groups: Cgroups | None, log: Callable[..., None]) -> None:
        self._groups = groups
        self._log = log

    def apply(self, child: Child, limits: Limits) -> bool:
        """Whether it has them now, or will have at its next start; False where it can't without a restart."""
        before, child.limits = child.limits, limits
        pid = child.record.pid
        if before == limits or pid is None or not child.record.wanted or child.record.state not in HAS_PROCESS:
            return True
        done = self._adjust_group(child, before, limits)
        changes = [
            (resource.RLIMIT_NOFILE, before.open_files, limits.open_files),
            (resource.RLIMIT_FSIZE, before.file_size, limits.file_size),
        ]
        if hard_by_rlimit(child, self._groups) and before.memory != limits.memory:
            held = linux.data_limit(pid)
            inherited = held - before.memory if before.memory else linux.data_bytes(pid)
            changes.append((resource.RLIMIT_DATA, held, limits.memory + inherited if limits.memory else 0))
        for which, old, new in changes:
            done = (old == new or linux.set_limit(pid, which, new)) and done
        self._log("info", "limits changed", bot=child.name, live=done)
        return done

    def _adjust_group(self, child: Child, before: Limits, limits: Limits) -> bool:
        """Of the limits that the bot's control group keeps; whether each that has changed is changed there."""
        groups = self._groups
        if not child.cgroup or groups is None:
            return True
        kept = {
            "memory_max": ("memory", before.memory, limits.memory),
            "cpu": ("cpu", before.cpu, limits.cpu),
            "processes": ("pids", before.processes, limits.processes),
        }
        changed: dict[str, Any] = {
            name: new
            for name, (controller, old, new) in kept.items()
            if old != new and controller in groups.controllers
        }
        if changed.get("memory_max"):
            held = cgroup_files.text(Path(child.cgroup, "memory.max")).strip()
            known = before.memory and held.isdigit()
            changed["memory_max"] += (
                int(held) - before.memory if known else linux.data_bytes(child.record.pid or "self")
            )
        return not changed or groups.adjust(child.cgroup, **changed)
