"""Faults from a file, in force from the start: `{"telegram": [fault, …], "completion": [fault, …]}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from botctl.sandbox.faults.engine import FaultEngine
from botctl.sandbox.faults.spec import FaultError


class ScriptError(Exception):
    """A file of faults is unusable; the message says which fault and why."""


def add_faults(file: Path, engines: Mapping[str, FaultEngine]) -> None:
    """Take up all faults of a file, each by the emulator under whose name it stands. Raises ScriptError."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScriptError(f"{file} can't be read: {error}") from error
    if not isinstance(raw, dict) or set(raw) - set(engines) or not all(isinstance(one, list) for one in raw.values()):
        raise ScriptError(f"{file} is a JSON object with lists of faults: {', '.join(engines)}")
    for name, faults in raw.items():
        for place, fault in enumerate(faults):
            try:
                engines[name].box.add(fault)
            except FaultError as error:
                raise ScriptError(f"{file}: {name}[{place}]: {error}") from error
