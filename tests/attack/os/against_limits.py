"""Attacks on rights and limits: core dumps, privileges, what a subprocess inherits."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

from attack.cases import attack
from attack.os.terrain import AREA, OPEN, Ground, RefusedError, any_of, libc


@attack("dump core", area=AREA)
def dump_core(_: Ground) -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return str(resource.getrlimit(resource.RLIMIT_CORE))


@attack("have a subprocess dump core", area=AREA)
def dump_core_below(_: Ground) -> str:
    child = os.fork()
    if child == 0:
        libc.prctl(4, 1, 0, 0, 0)
        os.abort()
    if not os.WCOREDUMP(os.waitpid(child, 0)[1]):
        raise RefusedError("no core was dumped")
    return "dumped"


@attack("raise one's own limits", area=AREA)
def raise_limits(_: Ground) -> str:
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)
    limited = [kind for kind in kinds if resource.getrlimit(kind)[1] != resource.RLIM_INFINITY]
    assert resource.RLIMIT_NOFILE in limited

    def more(kind: int) -> object:
        hard = resource.getrlimit(kind)[1]
        return resource.setrlimit(kind, (hard, hard + 4096))

    got = []
    for kind in limited:
        try:
            got.append(more(kind))
        except (OSError, ValueError) as error:
            refusal = error
    if not got:
        raise refusal
    return "raised"


@attack("get rights by a set-uid program", area=AREA)
def set_uid(ground: Ground) -> str:
    done = subprocess.run([ground.set_uid, "-u"], capture_output=True, text=True, check=True, timeout=10)
    if int(done.stdout) == os.getuid():
        raise RefusedError("it has no other rights than we have")
    return done.stdout


@attack("become root, or any other uid", area=AREA)
def become_root(_: Ground) -> str:
    tries = [lambda uid=uid: os.setresuid(uid, uid, uid) for uid in (0, 1, 65534) if uid != os.getuid()]
    return any_of([*tries, lambda: os.setgroups([0])])


@attack("leave the control group", area=AREA)
def leave_group(_: Ground) -> str:
    places = ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs")
    return any_of([lambda place=place: Path(place).write_text("0") for place in places])


@attack("load code into the kernel, or restart the machine", area=AREA)
def kernel(_: Ground) -> str:
    # A module that is none, and a restart without the magic numbers: refused for want of rights, or for being invalid.
    for number in (175, 169):
        libc.syscall(number, None, 0, b"")
        if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
            return os.strerror(ctypes.get_errno())
    raise RefusedError("not permitted")


@attack("run a program that one has written into one's own folder", area=AREA, none=OPEN)
def run_own_file(ground: Ground) -> str:
    program = Path(ground.home, "program")
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o700)
    return str(subprocess.run([program], check=True, timeout=10).returncode)


INHERITED = """
import os, socket, sys
data, supervisor, victim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
got = []
for what in (
    lambda: open(data + "/master.key").read(),
    lambda: os.kill(supervisor, 0),
    lambda: os.kill(victim, 0),
    lambda: open(f"/proc/{victim}/cmdline").read(),
    lambda: socket.create_server(("127.0.0.1", 0)),
    lambda: socket.socket().listen(),
    lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
):
    try:
        what()
        got.append("yes")
    except OSError:
        got.append("no")
print(",".join(got))
"""


@attack("do any of it from a subprocess with a session of its own", area=AREA, none=OPEN)
def from_a_subprocess(ground: Ground) -> str:
    command = [sys.executable, "-I", "-c", INHERITED, ground.data, str(ground.supervisor), str(ground.victim)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, start_new_session=True)
    if "yes" not in done.stdout:
        raise RefusedError(done.stdout)
    return done.stdout


@attack("shed Landlock, capabilities' loss or the filter by exec, threads or a new namespace", area=AREA, none=OPEN)
def shed(ground: Ground) -> str:
    child = os.fork()
    if child == 0:
        libc.unshare(0x10000000)  # CLONE_NEWUSER: all capabilities, in a namespace of its own
        try:
            Path(ground.data, "master.key").read_bytes()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RefusedError("a namespace opens nothing")
    return "read"
