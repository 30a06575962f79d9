"""Starts the emulators in a process of their own and ends it again. Standard library only."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

START_SECONDS = 20.0
STOP_SECONDS = 3.0


class SandboxStartError(Exception):
    """The emulators did not come up; the message holds what they said."""


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """Running emulators: the root of the Bot API, the OpenAI base URL, and the process."""

    telegram: str
    completion: str
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """End it, by force after `STOP_SECONDS`; its exit code. May be called twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()
        return int(self.process.returncode)

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_sandbox(*arguments: str, die_with_parent: bool = True) -> SandboxProcess:
    """Run `python -m botctl.sandbox` with these arguments and wait until it serves. Raises SandboxStartError.

    With `die_with_parent` the emulators end when the *thread* that called this ends: call it from one that stays.
    """
    command = [sys.executable, "-m", "botctl.sandbox", *arguments]
    if die_with_parent:
        command.append("--die-with-parent")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ready = _read_line(process, time.monotonic() + START_SECONDS)
    if ready is None:
        process.kill()
        _, said = process.communicate()
        raise SandboxStartError(said.decode(errors="replace").strip() or "the emulators did not start in time")
    return SandboxProcess(str(ready["telegram"]), str(ready["completion"]), process)


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
    """The ready line; None when the process ended, said something else, or took too long."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return None
        piece = process.stdout.read1(4096)  # type: ignore[attr-defined]
        if not piece:
            return None
        line += piece
    found = json.loads(line)
    return found if isinstance(found, dict) else None
