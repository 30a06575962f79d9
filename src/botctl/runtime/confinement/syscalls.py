"""A filter of system calls (seccomp): what neither a uid nor Landlock keeps from a bot, or only as long as they stand.

Calls that no bot has a use for are refused with EPERM, and so are those that change limits, priority or processors of
another process: the daemon's uid alone would allow that. Everything else passes unseen.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_SPEC_ALLOW = 1 << 2
"""Without it some kernels slow the process down, against attacks that it has no secret to lose to."""

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

REFUSED: dict[str, tuple[int, int]] = {
    # name: number on x86_64, on aarch64; -1 where there is none
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
}

OWN_ONLY: dict[str, tuple[int, int, int]] = {
    # name: numbers, and which argument is the process
    "prlimit64": (302, 261, 0),
    "sched_setaffinity": (203, 122, 0),
    "sched_setscheduler": (144, 119, 0),
    "sched_setparam": (142, 118, 0),
    "sched_setattr": (314, 274, 0),
    "setpriority": (141, 140, 1),
    "ioprio_set": (251, 30, 1),
}
"""Allowed for the caller itself, named by 0. Threads and whatever else it starts count as others."""

_WHICH = {"setpriority": 0, "ioprio_set": 1}
"""The value of the first argument that means one process: a group or a user would be more than that."""

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def is_known(machine: str) -> bool:
    """Whether we know the numbers of its system calls."""
    return machine in _ARCH


@functools.cache
def program(machine: str) -> bytes:
    """The filter, in the kernel's instructions. Raises KeyError for a machine whose numbers we don't know."""
    if not is_known(machine):
        raise KeyError(machine)
    column = list(_ARCH).index(machine)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _ARCH[machine]),
        (_RETURN, 0, 0, _REFUSE),  # another architecture has other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers in REFUSED.values():
        if numbers[column] >= 0:
            code += [(_JUMP_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _REFUSE)]
    for name, (*own, argument) in OWN_ONLY.items():
        checks = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE)]
        if name in _WHICH:
            checks += [(_LOAD, 0, 0, _ARGUMENTS), (_JUMP_EQUAL, 1, 0, _WHICH[name]), (_RETURN, 0, 0, _REFUSE)]
        checks.append((_RETURN, 0, 0, _ALLOW))
        code += [(_JUMP_EQUAL, 0, len(checks), own[column]), *checks]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def refuse() -> None:
    """From now on, for us and all that we start. Needs `no_new_privileges`. Raises OSError where it can't be had."""
    machine = os.uname().machine
    try:
        body = program(machine)
    except KeyError:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known") from None
    filter_ = _Program(len(body) // 8, body)
    number = ctypes.c_long(_SECCOMP[machine])
    if _libc.syscall(number, ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_SPEC_ALLOW), ctypes.byref(filter_)) != 0:
        found = ctypes.get_errno()
        raise OSError(found, f"seccomp: {os.strerror(found)}")
