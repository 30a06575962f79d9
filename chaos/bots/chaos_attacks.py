"""What a bot can do to itself, its siblings and its machine. Runs inside bots only.

Every subprocess carries the mark of its attack in its arguments, so that it is found whatever else it hides.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

BURN_SECONDS = 6.0
PIECE = 4 << 20
SLEEPERS = 40
BURN = f"import time\nuntil = time.monotonic() + {BURN_SECONDS}\nwhile time.monotonic() < until: pass"
SLEEP = "import time; time.sleep(900)"

_kept: list[object] = []


def stand_still() -> None:
    """Block the loop in a sleep."""
    time.sleep(900)


def go_round() -> None:
    """Block the loop in Python code."""
    while True:
        pass


def backtrack() -> None:
    """Block the loop, and the interpreter, in C code that takes longer than the world has."""
    re.match(r"(a+)+$", "a" * 60 + "b")


async def block_sleep(mark: str) -> None:
    """See `stand_still`."""
    stand_still()


async def block_loop(mark: str) -> None:
    """See `go_round`."""
    go_round()


async def block_c(mark: str) -> None:
    """See `backtrack`."""
    backtrack()


async def memory_fast(mark: str) -> None:
    """Take all there is at once, and keep it."""
    _eat(0.0)


async def memory_slow(mark: str) -> None:
    """Leak from a thread, while the bot goes on answering."""
    threading.Thread(target=_eat, args=(0.1,), daemon=True).start()


async def cpu_threads(mark: str) -> None:
    """Four threads that compute."""
    for _ in range(4):
        threading.Thread(target=exec, args=(BURN, {}), daemon=True).start()


async def cpu_processes(mark: str) -> None:
    """Six processes that compute, each in a session of its own; then the bot dies and leaves them."""
    for _ in range(6):
        _spawn(BURN, mark)
    await asyncio.sleep(2.0)
    os._exit(9)


async def forks(mark: str) -> None:
    """Many processes in sessions of their own, some forked only, one with an empty environment; then the bot dies."""
    for number in range(SLEEPERS):
        _spawn(SLEEP, mark)
        if number % 8 == 0:
            _fork_away()
            await asyncio.sleep(0)
    _spawn(SLEEP, f"{mark}-bare", environment={})
    await asyncio.sleep(0.3)
    os._exit(7)


async def descriptors(mark: str) -> None:
    """Use up all descriptors for some seconds, while the bot goes on."""
    taken: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))

    def give_back() -> None:
        time.sleep(BURN_SECONDS)
        for descriptor in taken:
            os.close(descriptor)

    threading.Thread(target=give_back, daemon=True).start()


async def flood_output(mark: str) -> None:
    """Write to stdout whatever goes, from a thread."""

    def flood() -> None:
        line = f"{mark} {'x' * 4000}\n".encode()
        until = time.monotonic() + BURN_SECONDS
        while time.monotonic() < until:
            os.write(1, line)

    threading.Thread(target=flood, daemon=True).start()


async def exit_0(mark: str) -> None:
    """End as if all were well."""
    os._exit(0)


async def exit_7(mark: str) -> None:
    """End with an error."""
    os._exit(7)


async def segfault(mark: str) -> None:
    """Read where there is nothing."""
    ctypes.string_at(0)


async def abort(mark: str) -> None:
    """End as an assertion in C code does."""
    os.abort()


async def raising(mark: str) -> None:
    """Fail at every attempt."""
    raise RuntimeError(f"{mark} fails on purpose")


async def threads_left(mark: str) -> None:
    """Leave threads that nobody ends and that keep an interpreter from exiting."""
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(900,), daemon=False).start()


ATTACKS: dict[str, Callable[[str], Awaitable[None]]] = {
    function.__name__: function
    for function in (
        *(block_sleep, block_loop, block_c, memory_fast, memory_slow, cpu_threads, cpu_processes, forks),
        *(descriptors, flood_output, exit_0, exit_7, segfault, abort, raising, threads_left),
    )
}


def _eat(pause: float) -> None:
    with contextlib.suppress(MemoryError):
        while True:
            _kept.append(bytearray(b"\1") * PIECE)
            if pause:
                time.sleep(pause)


def _spawn(code: str, mark: str, environment: dict[str, str] | None = None) -> None:
    _kept.append(subprocess.Popen([sys.executable, "-S", "-c", code, mark], start_new_session=True, env=environment))


def _fork_away() -> None:
    """A process that has exec'd nothing, in a session of its own, whose parent ends at once."""
    if between := os.fork():
        os.waitpid(between, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(900)
    os._exit(0)
