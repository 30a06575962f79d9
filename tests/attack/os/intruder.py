"""A bot that has been taken over: attacks from inside its own process, one function each.

One that gets through returns what it has got; one that is refused raises. Run by `stage.py`, with the children of
`integration/runtime` as its victims.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botctl
from attack.cases import ATTACKS, attack
from botctl.runtime import messages
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.runtime.frames import frame

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


def main(channel: Channel) -> int:
    channel.send(messages.Ready())

    mood = messages.Health.OK

    async def beat() -> None:
        while True:
            channel.send(messages.Heartbeat(health=mood))
            await asyncio.sleep(0.2)

    async def work() -> None:
        beating = asyncio.create_task(beat())
        while True:
            match await channel.receive():
                case messages.Stop():
                    beating.cancel()
                    return
                case messages.Adjust(settings={"frame": text}):
                    os.set_blocking(channel._reports, True)
                    os.write(channel._reports, frame(str(text).encode()))
                    nonlocal mood
                    mood = messages.Health.DEGRADED  # so that it shows that the frame has come before this
                case messages.Adjust(settings={"ground": ground, "names": names}):
                    for name in names:
                        print("attack", json.dumps({"name": name, **attempt(name, Ground(**ground))}), flush=True)
                    print("attacks over", flush=True)

    try:
        asyncio.run(work())
    except ChannelClosedError:
        return 0
    return 0


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


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# --- other processes -----------------------------------------------------------------------------------------------


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
    return anybody(lambda pid: checked(libc.process_vm_readv(pid, vector, 1, vector, 1, 0)), ground)


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


# --- files ---------------------------------------------------------------------------------------------------------


def read_file(*parts: str) -> str:
    return Path(*parts).read_bytes()[:100].decode(errors="replace")


@attack("read the master key", area=AREA, none=OPEN)
def master_key(ground: Ground) -> str:
    return read_file(ground.data, "master.key")


@attack("read the API's token", area=AREA, none=OPEN)
def api_token(ground: Ground) -> str:
    return read_file(ground.data, "api.token")


@attack("read log files", area=AREA, none=OPEN)
def logs(ground: Ground) -> str:
    return any_of([lambda: os.listdir(f"{ground.data}/logs"), lambda: read_file(ground.data, "logs/victim.log")])


@attack("read the folders of the embedded servers", area=AREA, none=OPEN)
def servers(ground: Ground) -> str:
    files = ("postgres/admin.password", "valkey/users/users.acl")
    return any_of([lambda name=name: read_file(ground.data, name) for name in files])


@attack("read the fleet file, token files and hidden files beside the handlers", area=AREA, none=OPEN)
def fleet_file(ground: Ground) -> str:
    names = ("fleet.yaml", "secrets/a.token", ".env", "link-to-fleet")
    return any_of([lambda name=name: read_file(ground.folder, name) for name in names])


@attack("read another bot's own folder", area=AREA, none=OPEN)
def others_folder(ground: Ground) -> str:
    return any_of([lambda: os.listdir(ground.victims_home), lambda: read_file(ground.victims_home, "notes")])


@attack("read files of the system that hold secrets", area=AREA)
def system_secrets(_: Ground) -> str:
    return any_of([lambda path=path: read_file(path) for path in ("/etc/shadow", "/etc/sudoers", "/dev/mem")])


@attack("read what others share in /dev/shm", area=AREA, none=OPEN)
def shared_memory(ground: Ground) -> str:
    return read_file(ground.shared)


@attack("write into the handlers, the data folder or another bot's folder", area=AREA, none=OPEN)
def write(ground: Ground) -> str:
    folders = (ground.folder, f"{ground.folder}/shop", ground.data, f"{ground.data}/code", ground.victims_home)
    return any_of([lambda folder=folder: Path(folder, "planted.py").write_text("import os") for folder in folders])


@attack("change, rename or remove a handler", area=AREA, none=OPEN)
def change_handler(ground: Ground) -> str:
    handler = Path(ground.folder, "bot.py")
    tries = (
        lambda: os.truncate(handler, 0),
        lambda: handler.open("a").write("import os"),
        lambda: handler.rename(handler.with_suffix(".old")),
        lambda: Path(ground.folder, "shop/prices.py").unlink(),
    )
    return any_of(tries)


@attack("write into installed packages, or their compiled files", area=AREA)
def packages(_: Ground) -> str:
    places = (Path(botctl.__file__).parent, Path(os.__file__).parent, Path(os.__file__).parent / "__pycache__")
    return any_of([lambda place=place: (place / "planted.py").write_text("import os") for place in places])


@attack("change the modes, owners or times of the daemon's files", area=AREA, landlock=OPEN, none=OPEN)
def modes(ground: Ground) -> str:
    key = f"{ground.data}/master.key"
    return any_of([lambda: os.chmod(key, 0o600), lambda: os.chown(key, os.getuid(), -1), lambda: os.utime(key)])


@attack("reach a file through a symbolic link", area=AREA, none=OPEN)
def symbolic_link(ground: Ground) -> str:
    links = {"key": f"{ground.data}/master.key", "up": ground.data, "fleet": f"{ground.folder}/fleet.yaml"}
    for name, target in links.items():
        Path(ground.home, name).symlink_to(target)
    return any_of([lambda name=name: read_file(ground.home, name) for name in ("key", "up/master.key", "fleet")])


@attack("reach a file through a hard link", area=AREA, none=OPEN)
def hard_link(ground: Ground) -> str:
    tries = {"key": f"{ground.data}/master.key", "fleet": f"{ground.folder}/fleet.yaml"}

    def link(name: str, target: str) -> str:
        os.link(target, f"{ground.home}/hard-{name}")
        return read_file(ground.home, f"hard-{name}")

    return any_of([lambda name=name, target=target: link(name, target) for name, target in tries.items()])


@attack("move one's own folder, or put another in its place", area=AREA, none=OPEN)
def move_home(ground: Ground) -> str:
    os.rename(ground.home, f"{ground.home}-moved")
    os.rename(f"{ground.home}-moved", ground.home)
    return "moved"


@attack("open a file by its handle (open_by_handle_at)", area=AREA)
def by_handle(ground: Ground) -> str:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    target = f"{ground.data}/master.key".encode()
    checked(libc.name_to_handle_at(-100, target, handle, ctypes.byref(mount), 0))
    at = os.open(ground.home, os.O_RDONLY)
    return os.read(checked(libc.open_by_handle_at(at, handle, os.O_RDONLY)), 100).decode()


@attack("mount something over the system's files", area=AREA, none=f"{OPEN} where users may make namespaces")
def mount(_: Ground) -> str:
    child = os.fork()
    if child == 0:
        libc.unshare(0x10000000 | 0x00020000)  # CLONE_NEWUSER, CLONE_NEWNS
        os._exit(0 if libc.mount(b"none", b"/etc", b"tmpfs", 0, None) == 0 else 1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RefusedError("it can't mount")
    return "mounted"


# --- sockets -------------------------------------------------------------------------------------------------------


@attack(
    "connect to the control socket",
    area=AREA,
    landlock=f"{OPEN}; without the token every request is refused",
    none=f"{OPEN}; and the token can be read",
)
def control_socket(ground: Ground) -> str:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(5)
        ours.connect(ground.socket)
    return "connected"


@attack("take the control socket's place", area=AREA, none=OPEN)
def replace_socket(ground: Ground) -> str:
    os.unlink(ground.socket)
    return "removed"


@attack("connect to another process's abstract socket", area=AREA, none=OPEN)
def abstract_socket(ground: Ground) -> str:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(5)
        ours.connect("\0" + ground.abstract)
    return "connected"


@attack("listen on a TCP port", area=AREA, none=OPEN)
def bind(_: Ground) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname())


# --- rights and limits ---------------------------------------------------------------------------------------------


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


@attack("keep memory that can be written and run from a file of one's own", area=AREA, none=OPEN)
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


NAMES = [name for name, function in ATTACKS.items() if function.__globals__ is globals()]
"""Those of this file."""
