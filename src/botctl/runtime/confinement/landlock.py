"""Landlock: a process gives up, for good and for all that it starts, what it may do to files, ports and processes.

The kernel's calls and numbers (landlock(7), ABI 1 to 7), no policy. What a kernel doesn't know is left out.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import stat

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_RULE_PATH_BENEATH = 1

_BIND_TCP = 1
"""Of `handled_access_net`; CONNECT_TCP is never handled, so that a bot may connect anywhere."""

_SCOPE_ABSTRACT_UNIX_SOCKET = 1
_SCOPE_SIGNAL = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Access(enum.IntFlag):
    """Rights on what is beneath a path; the kernel's bits."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


LIST = Access.READ_DIR
READ = LIST | Access.READ_FILE
RUN = READ | Access.EXECUTE
KEEP = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.REFER
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SOCK
    | Access.MAKE_FIFO
    | Access.MAKE_SYM
)
"""To keep files in: everything but to execute them, and to make devices."""

USE = Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE
"""Of one file or device."""

_SINCE = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
_OF_FILES = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
_BIND_SINCE, _SCOPES_SINCE = 4, 6


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@functools.cache
def abi() -> int:
    """The kernel's version of Landlock; 0 when it has none, or has it switched off."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION))


def handles_ports() -> bool:
    """Whether TCP ports can be kept from being bound (Linux 6.7)."""
    return abi() >= _BIND_SINCE


def handles_signals() -> bool:
    """Whether signals and abstract sockets can be kept within (Linux 6.12)."""
    return abi() >= _SCOPES_SINCE


class Ruleset:
    """Nothing is allowed but what is beneath the paths added. Raises OSError without Landlock.

    TCP ports can't be bound, others can be neither signalled nor reached by abstract sockets, where the kernel knows
    how to forbid it.
    """

    def __init__(self) -> None:
        version = abi()
        self._handled = functools.reduce(
            lambda handled, since: handled & ~_SINCE[since] if version < since else handled,
            _SINCE,
            Access((1 << 16) - 1),
        )
        attr = _RulesetAttr(self._handled, _BIND_TCP, _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL)
        size = 24 if handles_signals() else 16 if handles_ports() else 8
        self._descriptor = _checked(_syscall(_CREATE_RULESET, ctypes.byref(attr), size, 0), "landlock_create_ruleset")

    def allow(self, path: str, access: Access) -> bool:
        """Allow this beneath a path, or to the file that it is; False when it isn't there or can't be reached."""
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            allowed = access & self._handled
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                allowed &= _OF_FILES
            if allowed:
                attr = _PathBeneathAttr(allowed, place)
                done = _syscall(_ADD_RULE, self._descriptor, _RULE_PATH_BENEATH, ctypes.byref(attr), 0)
                _checked(done, f"landlock_add_rule({path})")
        finally:
            os.close(place)
        return True

    def enforce(self) -> None:
        """From now on, for this thread and all that it starts. Needs `no_new_privileges`."""
        _checked(_syscall(_RESTRICT_SELF, self._descriptor, 0), "landlock_restrict_self")
        self.close()

    def close(self) -> None:
        """Let go of the ruleset."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _syscall(number: int, *arguments: object) -> int:
    ctypes.set_errno(0)
    given = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *given)
    return result


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
