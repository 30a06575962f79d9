"""The most telling part of a process's stacks: where its main thread stood, and what each task waited for. Pure.

Reads the text that `runtime.stacks` makes; what it doesn't understand it leaves as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FRAMES = 6
TASKS = 8

_LIBRARIES = ("/asyncio/", "/site-packages/", "/selectors.py", "/botctl/")


@dataclass(slots=True)
class _Part:
    """A thread or a task: its heading, and its frames, innermost first."""

    heading: str
    frames: list[str] = field(default_factory=list)


def telling(stacks: str) -> list[str]:
    """Lines to show; frames are indented."""
    parts = _parts(stacks)
    threads = [part for part in parts if "thread" in part.heading.lower() and part.frames]
    tasks = [part for part in parts if part.heading.startswith("Task ")]
    if not threads and not tasks:
        return stacks.splitlines()[: 2 * FRAMES]
    lines = [part.heading for part in parts if part.heading.startswith("Fatal Python error")]
    if threads:
        stood = _stood(threads)
        lines += [_name(stood.heading), *stood.frames[:FRAMES]]
        if len(stood.frames) > FRAMES:
            lines.append(f"  … and {len(stood.frames) - FRAMES} more frames")
    for task in tasks[:TASKS]:
        lines += [_name(task.heading), *_waits(task.frames)]
    if len(tasks) > TASKS:
        lines.append(f"… and {len(tasks) - TASKS} more tasks")
    return lines


def _parts(stacks: str) -> list[_Part]:
    parts: list[_Part] = []
    for line in stacks.splitlines():
        if line.startswith("  ") and parts:
            parts[-1].frames.append(line)
        elif line.strip():
            parts.append(_Part(line))
    return parts


def _stood(threads: list[_Part]) -> _Part:
    """The main thread, or the one that broke. Threads come youngest first, so that the main one is the last."""
    return next((part for part in threads if part.heading.startswith("Current thread")), threads[-1])


def _waits(frames: list[str]) -> list[str]:
    """Where it waits; and, when that is in a library, the innermost place that is not."""
    places = [frame for frame in frames if 'File "' in frame]
    own = next((frame for frame in places if not any(library in frame for library in _LIBRARIES)), None)
    shown = places[:1]
    if own is not None and own not in shown:
        shown.append(own)
    return shown


def _name(heading: str) -> str:
    return heading.removesuffix(" (most recent call first):").removesuffix(":")
