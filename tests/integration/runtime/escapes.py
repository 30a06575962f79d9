"""Children that try to outlive their own end, or have a subprocess do so, one way each."""

from __future__ import annotations

import os
import resource
import sys
import time

import msgspec
from attackers import BEAT, READY, beat_for_ever, write

from botctl.runtime import strangers
from botctl.runtime.channel import Channel


def main(channel: Channel) -> None:
    configure = msgspec.json.decode(bytes(channel.configure.config))
    os.set_blocking(channel._reports, True)
    write(channel, READY + BEAT)
    globals()[f"do_{configure['habit'].rpartition('.')[2]}"](channel, configure)


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
