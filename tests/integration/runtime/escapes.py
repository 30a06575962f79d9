"""Children that try to outlive their own end, or have a subprocess do so, one way each."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable

import msgspec
from attackers import BEAT, READY, beat_for_ever, write

from botctl.runtime import strangers
from botctl.runtime.channel import Channel

_PR_SET_DUMPABLE = 4
_PR_SET_PTRACER = 0x59616D61
_PTRACE_SEIZE = 0x4206
_PTRACE_O_TRACEEXIT = 0x40

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def main(channel: Channel) -> None:
    configure = msgspec.json.decode(bytes(channel.configure.config))
    os.set_blocking(channel._reports, True)
    write(channel, READY + BEAT)
    globals()[f"do_{configure['habit'].rpartition('.')[2]}"](channel, configure)


def seize(pid: int, options: int = 0) -> bool:
    """Trace a process or thread; whether that was allowed."""
    return bool(_libc.ptrace(_PTRACE_SEIZE, pid, None, ctypes.c_void_p(options)) == 0)


def traced(channel: Channel, seize_us: Callable[[int], bool]) -> None:
    """Have a subprocess in a session of its own trace us, which waits for nobody."""
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    own, (out, into) = os.getpid(), os.pipe()
    tracer = os.fork()
    if tracer == 0:
        os.setsid()
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.close(channel._reports)
        os.close(channel._commands)
        os.write(into, b"!" if seize_us(own) else b"?")
        time.sleep(600)
        os._exit(0)
    print("tracer", tracer, flush=True)
    _libc.prctl(_PR_SET_PTRACER, tracer, 0, 0, 0)
    assert os.read(out, 1) == b"!", "not allowed to trace"


def do_traced(channel: Channel, configure: dict) -> None:
    """Its corpse is its tracer's."""
    traced(channel, seize)
    os._exit(3)


def do_traced_thread(channel: Channel, configure: dict) -> None:
    """One thread's corpse is its tracer's, and holds up the end of all."""
    import threading

    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    thread = max(int(name) for name in os.listdir("/proc/self/task"))
    traced(channel, lambda _: seize(thread))
    os._exit(3)


def do_traced_exit(channel: Channel, configure: dict) -> None:
    """Its tracer is to be asked before it ends."""
    traced(channel, lambda pid: seize(pid, _PTRACE_O_TRACEEXIT))
    os._exit(3)


def do_waits(channel: Channel, configure: dict) -> None:
    """Well, and ignores that it is to stop."""
    beat_for_ever(channel)


# --- subprocesses that say whose they are --------------------------------------------------------------------------


def leave(environment: dict[str, str], *, spoil: bool = False) -> None:
    """A subprocess in a session of its own that keeps nothing of ours; back when it has become `sleep`."""
    out, into = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        print("left", os.getpid(), flush=True)
        if spoil:
            resource.setrlimit(10, (5, 5))
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, into)
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], environment)
    os.waitpid(between, 0)
    os.close(into)
    os.read(out, 1)  # closed by the exec


def do_forger(channel: Channel, configure: dict) -> None:
    """Leaves one that says it is somebody else's."""
    leave({strangers.INCARNATION: configure["says"], "X": "y"}, spoil=configure.get("spoil", False))
    if configure.get("stays"):
        beat_for_ever(channel)
    time.sleep(0.1)
    raise RuntimeError("over")
