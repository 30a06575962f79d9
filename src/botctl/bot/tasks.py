"""Ending tasks for certain, and seeing where they are."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable
from typing import Any

_AGAIN = 0.3
_FRAMES = 50


def stack_of(task: asyncio.Task[Any]) -> str:
    """Where a task is, down to what it awaits, the innermost last; `Task.get_stack` knows its outermost coroutine only.

    A task that it awaits belongs to it. Lines as in a traceback; empty when the task has ended.
    """
    awaited: Any = task.get_coro()
    lines: list[str] = []
    while awaited is not None and len(lines) < _FRAMES:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            lines += traceback.format_list([(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None)])
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        elif isinstance(waiter := getattr(task, "_fut_waiter", None), asyncio.Task):
            task, awaited = waiter, waiter.get_coro()
        else:
            break
    return "".join(lines)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, whatever they raise.

    More than one cancel may be needed: in Python 3.11 `asyncio.wait_for`, which libraries use, swallows one that comes
    in the very moment its work is finished.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)


def stay_in(home: asyncio.AbstractEventLoop | None) -> None:
    """Raise RuntimeError in another event loop than this: locks, connections and queues of the bot live in its own."""
    if home is not None and asyncio.get_running_loop() is not home:
        raise RuntimeError(
            "called from another event loop than the bot's; "
            "use asyncio.run_coroutine_threadsafe(…, loop) with the loop of the handler"
        )
