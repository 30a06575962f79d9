"""Children with subprocesses of every kind, eaters of memory, and one that notices a second one of itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import children_for_tests

from botctl.runtime import messages
from botctl.runtime.channel import Channel

SLEEP = "import time; time.sleep(600)"


def main(channel: Channel) -> int:
    configure = json.loads(bytes(channel.configure.config))
    return globals()[f"do_{configure['habit'].rpartition('.')[2]}"](channel, configure)


def do_family(channel: Channel, configure: dict) -> int:
    """A subprocess of each kind, told by name and pid in the log; then ordinary work."""
    if channel.configure.incarnation == 1:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        tell("group", subprocess.Popen([sys.executable, "-c", SLEEP], **quiet).pid)
        tell("session", subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True, **quiet).pid)
        stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN);"
        tell(
            "stubborn", subprocess.Popen([sys.executable, "-c", stubborn + SLEEP], start_new_session=True, **quiet).pid
        )
        daemonize("daemon", lambda: os.execv(sys.executable, [sys.executable, "-c", SLEEP]))
        daemonize("fork", lambda: time.sleep(600))
        daemonize("hidden", lambda: os.execve(sys.executable, [sys.executable, "-c", SLEEP], {}))
        print("all up", flush=True)
    if configure.get("crash"):
        channel.send(messages.Ready())
        channel.send(messages.Heartbeat())
        while not os.path.exists(configure["crash"]):
            time.sleep(0.01)
        os._exit(3)
    return children_for_tests.do_well(channel)


def tell(kind: str, pid: int) -> None:
    print(f"family {kind} {pid}", flush=True)


def daemonize(kind: str, then) -> None:
    """As in the books: fork, setsid, fork again; the parents end."""
    read, write = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, 100)
            then()
            os._exit(0)
        os.write(write, str(daemon).encode())
        os._exit(0)
    os.waitpid(between, 0)
    tell(kind, int(os.read(read, 20)))
    os.close(read)
    os.close(write)


def do_cuckoo(channel: Channel, configure: dict) -> int:
    """Leaves a process in a session of its own, without an environment, that keeps the log; and dies."""
    channel.send(messages.Ready())
    channel.send(messages.Heartbeat())
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("cuckoo", os.getpid(), flush=True)
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.wait()
    os.close(write)
    os.read(read, 1)  # closed by the exec: from now on it has no mark
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def do_eat(channel: Channel, configure: dict) -> int:
    """Takes memory until it gets no more; says how much after every few MB."""
    channel.send(messages.Ready())
    eaten = []
    while True:
        eaten.append(bytearray(4_000_000))
        channel.send(messages.Heartbeat(gauges={"pss_mb": 4.0 * len(eaten), "own_mb": 4.0 * len(eaten)}))
        time.sleep(0.01)


def do_grow(channel: Channel, configure: dict) -> int:
    """Says that it has 500 MB, and stops when it is asked to."""
    if channel.configure.incarnation == 1:
        channel.send(messages.Ready())
        channel.send(messages.Heartbeat(gauges={"pss_mb": 900.0, "own_mb": 500.0}))
    return children_for_tests.do_well(channel)


def do_alone(channel: Channel, configure: dict) -> int:
    """Ends with a word of it when another of its incarnations lives."""
    lock = os.open(configure["lock"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("two at once", flush=True)
        return 1
    print("alone", flush=True)
    return children_for_tests.do_well(channel)


def do_crash_soon(channel: Channel, configure: dict) -> int:
    """Ends with an error, leaving a line and an orphan."""
    channel.send(messages.Ready())
    print("about to crash", "x" * 200, flush=True)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            signal.alarm(1)
            time.sleep(600)
        os._exit(0)
    os.wait()
    raise RuntimeError("as always")
