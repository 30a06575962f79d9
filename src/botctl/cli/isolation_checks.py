"""What `doctor` says of the isolation of bots' processes: what this machine has, what it lacks, what is in force.

Looks at this very process and machine; of a daemon that runs it asks the API.
"""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from botctl.cli.client import ApiClient
from botctl.cli.findings import Finding, Verdict
from botctl.cli.note import live_note
from botctl.errors import BotctlError
from botctl.runtime.confinement import confine, landlock, syscalls
from botctl.settings.places import DataFolder

if TYPE_CHECKING:
    from botctl.fleet import Fleet
    from botctl.settings.model import Settings

_SUBJECT = "isolation"
_NAMED = 5
"""Bots that are named where several have the same to say."""


def isolation(settings: Settings, fleet: Fleet | None) -> Iterator[Finding]:
    """Every finding, the machine's first."""
    yield from _uids(settings)
    yield from _landlock()
    yield from _calls()
    if fleet is not None:
        yield from _switched_off(fleet)
    yield from _in_force(settings)
    yield from _folders(settings)


def _uids(settings: Settings) -> Iterator[Finding]:
    last = settings.uid_base + settings.uid_count - 1
    if (refusal := confine.why_no_uid()) == "":
        yield Finding(Verdict.OK, _SUBJECT, f"each bot gets a uid of its own, from {settings.uid_base} to {last}")
        return
    hint = "Started by root, the daemon gives each bot a uid of its own." if os.geteuid() else None
    verdict = Verdict.OK if landlock.handles_signals() else Verdict.WARN
    yield Finding(verdict, _SUBJECT, f"bots have the daemon's uid: {refusal.replace('the daemon', 'this')}", hint)


def _landlock() -> Iterator[Finding]:
    version = landlock.abi()
    release = platform.release()
    if not version:
        missing = f"no Landlock on Linux {release}: a bot may read what its uid may"
        needs = "It needs Linux 5.13 or newer, with landlock in the boot parameter lsm=."
        yield Finding(Verdict.WARN, _SUBJECT, missing, needs)
        return
    lacks = [
        what
        for what, there in (
            ("binding ports (Linux 6.7)", landlock.handles_ports()),
            ("signals and abstract sockets (Linux 6.12)", landlock.handles_signals()),
        )
        if not there
    ]
    text = f"Landlock, ABI {version}" + (f", which can't forbid {' and '.join(lacks)}" if lacks else "")
    verdict = Verdict.WARN if not landlock.handles_signals() and confine.why_no_uid() else Verdict.OK
    hint = "Bots of one uid could signal the daemon and each other there." if verdict is Verdict.WARN else None
    yield Finding(verdict, _SUBJECT, text, hint)


def _calls() -> Iterator[Finding]:
    machine = platform.machine()
    if syscalls.is_known(machine):
        yield Finding(Verdict.OK, _SUBJECT, "a filter of system calls")
    else:
        yield Finding(Verdict.WARN, _SUBJECT, f"no filter of system calls: those of {machine} are not known")


def _switched_off(fleet: Fleet) -> Iterator[Finding]:
    names = [bot.name for bot in fleet.bots if bot.isolation.value == "none"]
    if names:
        yield Finding(Verdict.WARN, _SUBJECT, f"switched off in the fleet file for {_some(names)}")


def _in_force(settings: Settings) -> Iterator[Finding]:
    folder = DataFolder(settings.data_dir)
    try:
        if live_note(folder) is None:
            return
        bots = ApiClient.of(folder).get("/v1/status", timeout=5.0)["bots"]
    except (BotctlError, OSError):
        return
    levels, notes = defaultdict(list), defaultdict(list)
    for bot in bots:
        if bot.get("isolation"):
            levels[bot["isolation"]].append(bot["name"])
            if bot["isolation_note"]:
                notes[bot["isolation_note"]].append(bot["name"])
    for level, names in sorted(levels.items()):
        verdict = Verdict.WARN if level == "none" else Verdict.OK
        yield Finding(verdict, "isolation in force", f"{level}: {_some(names)}")
    for note, names in sorted(notes.items()):
        yield Finding(Verdict.OK, "isolation in force", f"{_some(names)}: {note}")


def _folders(settings: Settings) -> Iterator[Finding]:
    home = DataFolder(settings.data_dir).bots
    try:
        sizes = {entry.name: _size(Path(entry.path)) for entry in os.scandir(home) if entry.is_dir()}
    except OSError:
        return
    if sizes:
        largest = max(sizes, key=lambda name: sizes[name])
        text = f"{len(sizes)} in {home}, {sum(sizes.values()) / 1e6:.1f} MB; the largest is that of {largest}"
        yield Finding(Verdict.OK, "bots' own folders", f"{text}, {sizes[largest] / 1e6:.1f} MB")


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
