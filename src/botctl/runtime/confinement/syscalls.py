"""A filter of system calls (seccomp): what neither a uid nor Landlock keeps from a bot, or only as long as they stand.

Calls that no bot has a use for are refused with EPERM, and so are new namespaces, sockets of families that no bot
speaks, and whatever changes limits, priority or processors of another process: the daemon's uid alone would allow that.
Everything else passes unseen. A filter sees numbers, never what a pointer leads to: so no paths.
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
    "syslog": (103, 116),
    "open_tree_attr": (467, 467),
    # what a ring does, no filter sees
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # what is nobody's file: it outlives whoever made it, and is open to others by its mode, whatever their files are
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Landlock doesn't see it: names in folders that are closed
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
}

LISTEN = (50, 201)
"""Landlock keeps TCP ports from `bind` alone; a socket that listens without it gets one of the kernel's choice."""

WATCH = (254, 27)
"""inotify_add_watch: to be allowed where the modes of files say who may, for Landlock doesn't."""

ABSENT: dict[str, tuple[int, int]] = {
    # Its flags are behind a pointer. For want of it, libraries take `clone`.
    "clone3": (435, 435),
}
"""Refused with ENOSYS, as by an old kernel."""

_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

WITHOUT: dict[str, tuple[int, int, int]] = {
    # name: numbers, and the flags of the first argument that are refused
    "clone": (56, 220, _NAMESPACES),
    "unshare": (272, 97, _NAMESPACES | 0x80),  # CLONE_NEWTIME; with `clone` that bit is the signal's
}

SOCKETS: dict[str, tuple[int, int]] = {"socket": (41, 198), "socketpair": (53, 199)}
FAMILIES = (1, 2, 10)
"""Unix, IPv4, IPv6. Others, such as vsock, listen where Landlock keeps nobody from it."""

NETLINK = 16
"""Of its protocols the first alone, routes and addresses, which the resolver asks for: others tell of all processes
and sockets of the machine."""

PROTOCOLS = (33, 132, 256, 262)
"""DCCP, SCTP, SMC, MPTCP: of the third argument. Listeners that are none of TCP's, so Landlock doesn't keep them."""

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

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_REFUSE = _ERROR | errno.EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def is_known(machine: str) -> bool:
    """Whether we know the numbers of its system calls."""
    return machine in _ARCH


_Code = list[tuple[int, int, int, int]]


@functools.cache
def program(machine: str, *, listen: bool = False, watch: bool = False) -> bytes:
    """The filter, in the kernel's instructions. Raises KeyError for a machine whose numbers we don't know.

    `listen` and `watch` leave those calls alone.
    """
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
    refused = [*REFUSED.values(), *([] if listen else [LISTEN]), *([] if watch else [WATCH])]
    for numbers in refused:
        code += _for(numbers[column], [(_RETURN, 0, 0, _REFUSE)])
    for numbers in ABSENT.values():
        code += _for(numbers[column], [(_RETURN, 0, 0, _ERROR | errno.ENOSYS)])
    for *own, flags in WITHOUT.values():
        checks = [_argument(0), (_JUMP_ANY_BIT, 0, 1, flags), (_RETURN, 0, 0, _REFUSE)]
        code += _for(own[column], [*checks, (_RETURN, 0, 0, _ALLOW)])
    for numbers in SOCKETS.values():
        code += _for(numbers[column], _of_sockets())
    for name, (*own, argument) in OWN_ONLY.items():
        checks = [_argument(argument), (_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE)]
        if name in _WHICH:
            checks += [_argument(0), (_JUMP_EQUAL, 1, 0, _WHICH[name]), (_RETURN, 0, 0, _REFUSE)]
        code += _for(own[column], [*checks, (_RETURN, 0, 0, _ALLOW)])
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _for(value: int, then: _Code) -> _Code:
    """These where it is what was loaded; -1 for never. They must end with a return: they may load something else."""
    return [(_JUMP_EQUAL, 0, len(then), value), *then] if value >= 0 else []


def _argument(which: int) -> tuple[int, int, int, int]:
    """Its lower 32 bits, all that the kernel looks at of those that we ask about."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * which)


def _of_sockets() -> _Code:
    routes = [_argument(2), (_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    unknown = (_RETURN, 0, 0, _ERROR | errno.EPROTONOSUPPORT)
    code: _Code = [_argument(0), *_for(NETLINK, [*routes, unknown])]
    for place, family in enumerate(FAMILIES):
        code.append((_JUMP_EQUAL, len(FAMILIES) - place, 0, family))
    code += [(_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT), _argument(2)]
    for protocol in PROTOCOLS:
        code += [(_JUMP_EQUAL, 0, 1, protocol), unknown]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def refuse(*, listen: bool = False, watch: bool = False) -> None:
    """From now on, for us and all that we start. Needs `no_new_privileges`. Raises OSError where it can't be had."""
    machine = os.uname().machine
    try:
        body = program(machine, listen=listen, watch=watch)
    except KeyError:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known") from None
    filter_ = _Program(len(body) // 8, body)
    number = ctypes.c_long(_SECCOMP[machine])
    if _libc.syscall(number, ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_SPEC_ALLOW), ctypes.byref(filter_)) != 0:
        found = ctypes.get_errno()
        raise OSError(found, f"seccomp: {os.strerror(found)}")
