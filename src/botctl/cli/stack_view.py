"""The most telling part of a process's stacks: where its main thread stood, and what each task waited for. Pure.

Reads the text that `runtime.stacks` makes; what it doesn't understand it leaves as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FRAMES = 6
TASKS = 8

_PLACE = re.compile(r'^ +File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_STANDARD = re.compile(r"^.*/python3\.\d+/(?!site-packages/|dist-packages/)")
_INSTALLED = re.compile(r"^.*/(?:site|dist)-packages/|^.*/src/(?=botctl/)")


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
    waits = sorted((_wait(task) for task in tasks), key=lambda wait: wait[0])
    if threads and _stands_in_own_code(stood):
        # That is where it hangs; what waits for the loop elsewhere tells nothing.
        waits = [(distance, line) for distance, line in waits if distance == 0]
    shown = waits[:TASKS]
    lines += [line for _, line in shown]
    if len(tasks) > len(shown):
        lines.append(f"… and {len(tasks) - len(shown)} {'more ' if shown else ''}tasks")
    return lines


def _stands_in_own_code(part: _Part) -> bool:
    """Whether any of the frames shown is of the bot's own files."""
    places = [_PLACE.match(frame) for frame in part.frames[:FRAMES]]
    return any(place is not None and _is_own(place["file"]) for place in places)


def _is_own(file: str) -> bool:
    return not file.startswith("<") and _shortened(file)[0] == 0


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


def _wait(task: _Part) -> tuple[int, str]:
    """How far its waiting place is from the bot's own code, and a line of it."""
    best: tuple[int, str] | None = None
    for frame in task.frames:
        place = _PLACE.match(frame)
        if place is None:
            continue
        distance, file = _shortened(place["file"])
        if best is None or distance < best[0]:
            best = distance, f"{file}:{place['line']} in {place['function']}"
    distance, where = best or (3, "nobody knows where")
    return distance, f"{_name(task.heading)}: {where}"


def _shortened(file: str) -> tuple[int, str]:
    """0 for a bot's own file, 1 for one of a library, 2 for one of Python; without the folders all of these share."""
    if match := _INSTALLED.match(file):
        return 1, file[match.end() :]
    if match := _STANDARD.match(file):
        return 2, file[match.end() :]
    return 0, file


def _name(heading: str) -> str:
    return heading.removesuffix(" (most recent call first):").removesuffix(":")
