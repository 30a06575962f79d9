"""Where a child is stuck: the stacks of all its threads and asyncio tasks, in a file that only memory holds.

The supervisor makes the file, one an incarnation; the child writes into it when `STACKS_SIGNAL` arrives or a fatal
signal ends it. The thread stacks are written by C code at once, whatever the interpreter does; the tasks follow when
Python code can run. Neither side ever waits for the other, and the file can't grow.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from botctl.runtime.spawn import STACKS_SIGNAL

SIZE = 64 * 1024
"""Bytes of the file."""

TASKS_ROOM = 24 * 1024
"""Bytes at its end that threads with deep stacks can't take from the tasks."""

MOST_TASKS = 60
MOST_FRAMES = 12

_NOEXEC_SEAL = 8
_CONTROL = bytes(byte for byte in range(32) if byte not in b"\t\n") + b"\x7f"
_UNPRINTABLE = bytes.maketrans(_CONTROL, b"?" * len(_CONTROL))
_C1 = re.compile(r"[\x80-\x9f]")
_INNER = ("cr_await", "gi_yieldfrom", "ag_await")
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")

# --- the supervisor's side -----------------------------------------------------------------------------------------


def new_file() -> int:
    """A new file of `SIZE` bytes; the descriptor is the caller's. Raises OSError.

    It can neither grow nor shrink, so that a child can't fill the memory with it.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("botctl-stacks", flags | _NOEXEC_SEAL)
    except OSError:  # Linux before 6.3 doesn't know the flag, and some later ones demand it
        descriptor = os.memfd_create("botctl-stacks", flags)
    try:
        os.ftruncate(descriptor, SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> str:
    """What has been written, as printable text of at most `SIZE` characters; empty when nothing has been."""
    try:
        data = os.pread(descriptor, SIZE, 0)
    except OSError:
        return ""
    # Whatever the child has put there, this is quick: the supervisor has no time for it.
    return _C1.sub("?", data.replace(b"\0", b"").translate(_UNPRINTABLE).decode("utf-8", "replace"))


def clear(descriptor: int) -> None:
    """Forget what has been written, before asking again."""
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, bytes(len(os.pread(descriptor, SIZE, 0).rstrip(b"\0"))), 0)
        os.lseek(descriptor, 0, os.SEEK_SET)  # the child writes at the same position: it is one open file


# --- the child's side ----------------------------------------------------------------------------------------------


def install(descriptor: int) -> None:
    """Write stacks into `descriptor` on `STACKS_SIGNAL` and on fatal signals. Called in the main thread."""
    writing = False

    def write_tasks(_: int, frame: FrameType | None) -> None:
        nonlocal writing
        if writing:
            return
        writing = True
        try:
            _append(descriptor, frame)
        except Exception:  # the bot's own work goes on, whatever is wrong with its tasks
            return
        finally:
            writing = False

    # In this order: faulthandler writes the threads in C, then raises the signal again for the handler before it,
    # which is Python's; that one notes the signal for the main thread's next bytecode.
    signal.signal(STACKS_SIGNAL, write_tasks)
    faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=True, chain=True)
    faulthandler.enable(file=descriptor, all_threads=True)


def _append(descriptor: int, frame: FrameType | None) -> None:
    lines: list[str] = []
    room, full = TASKS_ROOM, False
    with contextlib.suppress(OSError):  # a pipe or a terminal has no position
        left = SIZE - os.lseek(descriptor, 0, os.SEEK_CUR)
        room, full = max(left, TASKS_ROOM), left < TASKS_ROOM
    if full:
        # Threads come youngest first: the main thread may be what was cut off.
        lines += ["", "[no room for more threads; the main thread again]", *_stack(frame)]
    for loop in _running_loops():
        lines += _tasks(loop)
    text = "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
    if len(text) > room:
        text = text[: room - 32] + b"\n[cut: no more room]\n"
    with contextlib.suppress(OSError):
        if full:
            os.lseek(descriptor, SIZE - TASKS_ROOM, os.SEEK_SET)
            text = text.ljust(room, b"\0")
        os.write(descriptor, text)


def _stack(frame: FrameType | None) -> Iterator[str]:
    left = 3 * MOST_FRAMES
    while frame is not None and left:
        yield _place(frame)
        frame, left = frame.f_back, left - 1


def _running_loops() -> Iterator[Any]:
    """Loops that run in any thread, found on its stack."""
    for frame in sys._current_frames().values():
        current: FrameType | None = frame
        while current is not None:
            if current.f_code.co_name == "run_forever" and "self" in current.f_locals:
                yield current.f_locals["self"]
                break
            current = current.f_back


def _tasks(loop: Any) -> Iterator[str]:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: str(task.get_name()))
    current = asyncio.current_task(loop)
    yield ""
    yield f"Tasks of {type(loop).__name__}: {len(tasks)}"
    if current in tasks:
        tasks.remove(current)
        tasks.insert(0, current)
    for task in tasks[:MOST_TASKS]:
        yield from _task(task, running=task is current)
    if len(tasks) > MOST_TASKS:
        yield f"… and {len(tasks) - MOST_TASKS} more tasks"


def _task(task: Any, *, running: bool) -> Iterator[str]:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    yield f"Task {task.get_name()} ({name}){', running' if running else ''} (most recent call first):"
    frames = list(_frames(coroutine))
    frames.reverse()
    for frame in frames[:MOST_FRAMES]:
        yield _place(frame)
    if len(frames) > MOST_FRAMES:
        yield f"  … and {len(frames) - MOST_FRAMES} more frames"
    name_of_awaited = getattr(getattr(task, "_fut_waiter", None), "get_name", None)
    if name_of_awaited is not None:
        yield f"  waits for task {name_of_awaited()}"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Frames from a task's own coroutine down to where it waits; `Task.get_stack` knows only the first."""
    for _ in range(1000):
        if awaited is None:
            return
        frame = _attribute(awaited, _FRAMES)
        if frame is not None:
            yield frame
            awaited = _attribute(awaited, _INNER)
        else:
            # What `async for`, `__await__` and `anext` put between has no name for what it awaits.
            inner = (one for one in gc.get_referents(awaited) if _attribute(one, _FRAMES) is not None)
            awaited = next(inner, None)


def _attribute(thing: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        found = getattr(thing, name, None)
        if found is not None:
            return found
    return None


def _place(frame: FrameType) -> str:
    return f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
