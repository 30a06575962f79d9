"""The capabilities of the calling process: which it has, and giving up all but some. capabilities(7); no policy."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
from collections.abc import Iterator

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(enum.IntEnum):
    """Those that we ask for or keep; the kernel's numbers."""

    CHOWN = 0
    DAC_READ_SEARCH = 2
    KILL = 5
    SETGID = 6
    SETUID = 7


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def effective() -> int:
    """Bits of the capabilities in force."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)


def has(*wanted: Capability) -> bool:
    """Whether all of them are in force."""
    held = effective()
    return all(held >> one & 1 for one in wanted)


@contextlib.contextmanager
def none_in_force() -> Iterator[None]:
    """For a while use none of those that are permitted. Raises OSError."""
    data = (_Data * 2)()
    _call("capget", data)
    held = [one.effective for one in data]
    for one in data:
        one.effective = 0
    _call("capset", data)
    try:
        yield
    finally:
        for one, bits in zip(data, held, strict=True):
            one.effective = bits
        _call("capset", data)


def keep_over_setuid() -> None:
    """Keep what is permitted when the last uid 0 is given up, so that `keep_only` can still choose."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def drop_bounding(*kept: Capability) -> None:
    """No program that is exec'd gives any other capability again. Does nothing without CAP_SETPCAP."""
    for number in range(64):
        if number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            return  # not allowed, or beyond the last one


def keep_only(*kept: Capability) -> None:
    """Give up all others, for good; those kept are kept over exec too. Raises OSError."""
    bits = sum(1 << one for one in kept)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _call("capset", (_Data * 2)(_Data(bits, bits, bits), _Data(0, 0, 0)))
    for one in kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, int(one))


def _call(name: str, data: ctypes.Array[_Data]) -> None:
    if getattr(_libc, name)(ctypes.byref(_Header(_VERSION_3, 0)), data) != 0:
        raise _failure(name)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        raise _failure(f"prctl({option})")


def _failure(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
