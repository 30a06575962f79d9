"""Attacks on other processes: their memory, their descriptors, their life."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import struct
from typing import Any

from attack.cases import attack
from attack.os.terrain import AREA, OPEN, Ground, RefusedError, any_of, anybody, checked, libc


def read_of(name: str) -> Any:
    def read(pid: int) -> bytes:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(100)

    return read


@attack("read another process's /proc/PID/environ", area=AREA)
def environ(ground: Ground) -> str:
    return anybody(read_of("environ"), ground)


@attack("read another process's /proc/PID/maps", area=AREA)
def maps(ground: Ground) -> str:
    return anybody(read_of("maps"), ground)


@attack("read another process's /proc/PID/cmdline, status or limits", area=AREA, none=f"{OPEN}; no secret is in them")
def cmdline(ground: Ground) -> str:
    return "".join(anybody(read_of(name), ground) for name in ("cmdline", "status", "limits"))


@attack("list the processes of the machine", area=AREA, none=OPEN)
def list_processes(_: Ground) -> str:
    return str(os.listdir("/proc"))


@attack("open another process's memory, /proc/PID/mem", area=AREA)
def memory(ground: Ground) -> str:
    return anybody(lambda pid: os.open(f"/proc/{pid}/mem", os.O_RDWR), ground)


@attack("list or open another process's descriptors, /proc/PID/fd", area=AREA)
def descriptors(ground: Ground) -> str:
    return anybody(lambda pid: os.listdir(f"/proc/{pid}/fd"), ground)


@attack("enter another process's root or working directory through /proc", area=AREA)
def root(ground: Ground) -> str:
    return anybody(lambda pid: os.listdir(f"/proc/{pid}/root") + os.listdir(f"/proc/{pid}/cwd"), ground)


@attack("attach to another process as a debugger (ptrace)", area=AREA)
def ptrace(ground: Ground) -> str:
    return anybody(lambda pid: checked(libc.ptrace(16, pid, None, None)), ground)


@attack("read or write another process's memory (process_vm_readv, process_vm_writev)", area=AREA)
def process_vm(ground: Ground) -> str:
    vector = struct.pack("PN", id(ground), 8)

    def read(pid: int) -> str:
        try:
            return str(checked(libc.process_vm_readv(pid, vector, 1, vector, 1, 0)))
        except OSError as error:
            if error.errno == errno.EFAULT:
                return "its memory is open, but for that address"
            raise

    return anybody(read, ground)


@attack("take a descriptor out of another process (pidfd_getfd)", area=AREA)
def take_descriptor(ground: Ground) -> str:
    return anybody(lambda pid: checked(libc.syscall(438, os.pidfd_open(pid), 0, 0)), ground)


@attack("kill the supervisor, the forkserver, control or another bot", area=AREA, none=OPEN)
def kill(ground: Ground) -> str:
    return anybody(lambda pid: os.kill(pid, 0 if ground.gentle else signal.SIGKILL), ground)


@attack("kill by pidfd, or by group", area=AREA, none=OPEN)
def kill_otherwise(ground: Ground) -> str:
    sign = 0 if ground.gentle else signal.SIGKILL
    tries = (
        lambda: anybody(lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), sign), ground),
        lambda: anybody(lambda pid: os.killpg(pid, sign), ground),
    )
    return any_of(tries)


@attack("stop another process, or have it dump its stacks", area=AREA, none=OPEN)
def stop(ground: Ground) -> str:
    signs = (0,) if ground.gentle else (signal.SIGSTOP, signal.SIGUSR2, signal.SIGTERM)
    return any_of([lambda sign=sign: anybody(lambda pid: os.kill(pid, sign), ground) for sign in signs])


@attack("have another process signalled by the kernel (F_SETOWN)", area=AREA, none=OPEN)
def signal_by_io(ground: Ground) -> str:
    import fcntl

    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, ground.victim)
    fcntl.fcntl(ours, 10, signal.SIGURG if ground.gentle else signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    theirs.send(b"!")
    if ground.gentle:
        return "sent one that does no harm"
    raise RefusedError("whoever lives on has not been signalled")


@attack("lower another process's limits (prlimit)", area=AREA, none=OPEN)
def limit_others(ground: Ground) -> str:
    def lower(pid: int) -> object:
        held = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return resource.prlimit(pid, resource.RLIMIT_NOFILE, held if ground.gentle else (0, 0))

    return anybody(lower, ground)


@attack("take processor time from others (setpriority, sched_setaffinity, ioprio_set)", area=AREA, none=OPEN)
def slow_others(ground: Ground) -> str:
    tries = (
        lambda: anybody(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19), ground),
        lambda: anybody(lambda pid: os.setpriority(os.PRIO_PGRP, pid, 19), ground),
        lambda: anybody(lambda pid: os.sched_setaffinity(pid, {0}), ground),
        lambda: anybody(lambda pid: checked(libc.syscall(251, 1, pid, 3 << 13)), ground),
    )
    return any_of(tries)
