"""Where an intruder is, and how what it tries is told: got through, or refused.

An attack that gets through returns what it has got; one that is refused raises.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.cases import ATTACKS

AREA = "processes"
OPEN = "succeeds"
"""At a level that doesn't keep it."""

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class RefusedError(Exception):
    """It didn't work, and no error of the system's says so."""


@dataclass(frozen=True)
class Ground:
    """Where the intruder is. `gentle`: nobody is to be harmed, as nothing keeps it from that."""

    supervisor: int
    forkserver: int
    control: int
    victim: int
    data: str
    folder: str
    socket: str
    abstract: str
    set_uid: str
    shared: str
    home: str
    victims_home: str
    gentle: bool

    @property
    def others(self) -> dict[str, int]:
        return {
            "supervisor": self.supervisor,
            "forkserver": self.forkserver,
            "control": self.control,
            "another bot": self.victim,
        }


def attempt(name: str, ground: Ground) -> dict[str, str]:
    """How an attack ends: `refused` or `succeeds`, and what it says."""
    try:
        got = ATTACKS[name](ground)
    except (OSError, ValueError, RefusedError, subprocess.SubprocessError) as error:
        return {"outcome": "refused", "said": f"{type(error).__name__}: {error}"}
    except Exception as error:
        return {"outcome": "broken", "said": f"{type(error).__name__}: {error}"}
    return {"outcome": OPEN, "said": str(got)[:200]}


def anybody(tries: Any, ground: Ground) -> str:
    """Try it on everybody; what those gave who didn't refuse. Raises the last refusal when all did."""
    got, refusal = [], RefusedError("nobody is there")
    for who, pid in ground.others.items():
        try:
            got.append(f"{who}: {tries(pid)}")
        except OSError as error:
            refusal = error
    if not got:
        raise refusal
    return "; ".join(got)


def any_of(tries: Any) -> str:
    got, refusal = [], RefusedError("nothing was tried")
    for one in tries:
        try:
            got.append(str(one()))
        except (OSError, RefusedError) as error:
            refusal = error
    if not got:
        raise refusal
    return "; ".join(got)


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read_file(*parts: str) -> str:
    return Path(*parts).read_bytes()[:100].decode(errors="replace")
