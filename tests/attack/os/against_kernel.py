"""Attacks by way of the kernel: namespaces, rings, what outlives a process, what sees without reading."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from attack.cases import attack
from attack.os.terrain import AREA, OPEN, Ground, RefusedError, any_of, checked, libc

USERS = f"{OPEN} where users may make namespaces"
NEWUSER, NEWNET = 0x10000000, 0x40000000
SIGCHLD = 17
CLONE3, IO_URING_SETUP = 435, 425  # everywhere
CLONE, SHMGET, SEMGET, MSGGET = {
    "x86_64": (56, 29, 64, 68),
    "aarch64": (220, 194, 190, 186),
}[platform.machine()]


def _in_a_namespace(enter: Callable[[], int], do: Callable[[], object]) -> str:
    """`enter` returns 0 in a process that is to be in a new namespace, and its pid to whoever made it."""
    child = os.fork()
    if child == 0:
        try:
            inner = enter()
            if inner == 0:
                do()
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) if inner > 0 else 1)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RefusedError("no such namespace")
    return "made"


def _raw() -> None:
    """Only who has all capabilities in a network namespace can have these."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()


def _clone3() -> int:
    arguments = struct.pack("11Q", NEWUSER | NEWNET, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0)
    return checked(libc.syscall(CLONE3, arguments, len(arguments)))


def _clone() -> int:
    return checked(libc.syscall(CLONE, ctypes.c_ulong(NEWUSER | NEWNET | SIGCHLD), None, None, None, None))


@attack("make a namespace in which one is root (clone)", area=AREA, none=USERS)
def namespace_by_clone(_: Ground) -> str:
    return _in_a_namespace(_clone, _raw)


@attack("make a namespace in which one is root (clone3)", area=AREA, none=USERS)
def namespace_by_clone3(_: Ground) -> str:
    return _in_a_namespace(_clone3, _raw)


@attack("make a namespace in which one is root (unshare)", area=AREA, none=USERS)
def namespace_by_unshare(_: Ground) -> str:
    return _in_a_namespace(lambda: checked(libc.unshare(NEWUSER | NEWNET)), _raw)


@attack("hand calls to the kernel past the filter (io_uring)", area=AREA, none=f"{OPEN} where the kernel has it on")
def ring(_: Ground) -> str:
    os.close(checked(libc.syscall(IO_URING_SETUP, 4, bytes(120))))
    return "a ring"


@attack("leave shared memory, semaphores or queues behind for others (System V, POSIX queues)", area=AREA, none=OPEN)
def left_behind(_: Ground) -> str:
    def queue() -> str:
        name = b"/botctl-attack"
        checked(libc.mq_open(name, os.O_RDWR | os.O_CREAT, 0o666, None))
        return str(libc.mq_unlink(name))

    def memory() -> str:
        return str(libc.shmctl(checked(libc.syscall(SHMGET, 0, 4096, 0o1666)), 0, None))

    def semaphores() -> str:
        return str(libc.semctl(checked(libc.syscall(SEMGET, 0, 1, 0o1666)), 0, 0))

    def messages() -> str:
        return str(libc.msgctl(checked(libc.syscall(MSGGET, 0, 0o1666)), 0, None))

    return any_of([memory, semaphores, messages, queue])


@attack("watch others' files come and go (inotify, fanotify)", area=AREA, none=OPEN)
def watch(ground: Ground) -> str:
    places = (ground.victims_home, f"{ground.data}/logs", f"{ground.data}/run", "/root")

    def by_inotify(place: str) -> str:
        descriptor = checked(libc.inotify_init1(os.O_CLOEXEC))
        try:
            return str(checked(libc.inotify_add_watch(descriptor, place.encode(), 0xFFF)))
        finally:
            os.close(descriptor)

    def by_fanotify() -> str:
        descriptor = checked(libc.fanotify_init(0x200, os.O_RDONLY))  # FAN_REPORT_FID: for whom is no root
        os.close(descriptor)
        return "a listener"

    return any_of([*(lambda place=place: by_inotify(place) for place in places), by_fanotify])


@attack("see programs start and end, or sockets of others, by way of netlink", area=AREA, none=OPEN)
def netlink(_: Ground) -> str:
    def connector() -> str:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as ours:
            ours.bind((0, 1))
            listen = struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, 1)  # CN_IDX_PROC, CN_VAL_PROC, PROC_CN_MCAST_LISTEN
            ours.send(struct.pack("=IHHII", 16 + len(listen), 3, 0, 0, 0) + listen)
            ours.settimeout(5)
            return str(len(ours.recv(4096)))

    def sockets() -> str:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as ours:
            ask = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, 0, 0, 0)
            ours.send(struct.pack("=IHHII", 16 + len(ask), 20, 0x301, 0, 0) + ask)
            ours.settimeout(5)
            return str(len(ours.recv(65536)))

    return any_of([connector, sockets])


OWN_CODE = f"{OPEN}; it is the bot's own code, with no other rights"


@attack("run a program out of memory (memfd)", area=AREA, uid=OWN_CODE, landlock=OWN_CODE, none=OWN_CODE)
def run_from_memory(_: Ground) -> str:
    descriptor = os.memfd_create("program")
    os.write(descriptor, Path("/bin/true").read_bytes())
    child = os.fork()
    if child == 0:
        try:
            os.execve(descriptor, ["true"], {})
        finally:
            os._exit(1)
    os.close(descriptor)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RefusedError("it doesn't run")
    return "run"


SEEN = f"{OPEN}; nothing that stands in them"


@attack("see size and times of others' files (stat)", area=AREA, uid=SEEN, landlock=SEEN, none=SEEN)
def see(ground: Ground) -> str:
    found = os.stat(f"{ground.data}/master.key")
    return f"{found.st_size} {found.st_mtime}"
