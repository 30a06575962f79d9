"""Becomes a server: takes an `ExecSpec` as JSON from standard input, drops rights, binds its life to the supervisor's.

What its predecessor has left is ended first: a killed PostgreSQL leaves whoever is in the middle of a long query, and
that one holds the shared memory, without which no other server starts.

Run as `python -I -S exec_child.py SUPERVISOR_PID`, by path and with the standard library only, so that it costs 15 ms.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys

_PATIENCE_MS = 5000
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: execs, or exits with 127 and a message."""
    supervisor = int(sys.argv[1])
    spec = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.setsid()
    os.umask(0o077)
    if spec["alone_in"]:
        end_leftovers(supervisor, spec["argv"][0], spec["alone_in"])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if spec["gid"] is not None:
        os.setgroups([])
        os.setgid(spec["gid"])
    if spec["uid"] is not None:
        os.setuid(spec["uid"])
    if spec["data_limit"]:
        resource.setrlimit(resource.RLIMIT_DATA, (spec["data_limit"], spec["data_limit"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(spec["cwd"])
    # After setuid, which clears it; it survives an ordinary exec.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, spec["death_signal"], 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(0)
    try:
        os.execve(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        sys.stderr.write(f"cannot run {spec['argv'][0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def end_leftovers(supervisor: int, program: str, folder: str) -> None:
    """KILL the supervisor's children, adopted ones, that run `program` in `folder`; wait until they are gone."""
    wanted = (os.path.realpath(program), os.path.realpath(folder))
    for pid in children(supervisor):
        if is_running(pid, *wanted):
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                continue
            if is_running(pid, *wanted):  # it is still the same process that the handle is of
                try:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                except OSError:
                    pass
                else:
                    watch = select.poll()
                    watch.register(handle, select.POLLIN)
                    watch.poll(_PATIENCE_MS)
            os.close(handle)


def children(pid: int) -> list[int]:
    """Who has this process as parent now."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    stat = file.read()
            except OSError:
                continue
            if int(stat[stat.rindex(b")") + 2 :].split()[1]) == pid:
                found.append(int(name))
    return found


def is_running(pid: int, program: str, folder: str) -> bool:
    """Whether a process that lives runs this program in this folder."""
    try:
        exe, cwd = os.readlink(f"/proc/{pid}/exe"), os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False
    return exe.removesuffix(" (deleted)") == program and cwd == folder


main()
