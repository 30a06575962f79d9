"""What launcher and forkserver say to each other, and the signal both sides of a fork agree on. Slim."""

from __future__ import annotations

import signal

import msgspec

REQUEST_LIMIT = 64 * 1024
"""Bytes of one request."""

NICENESS = 5
"""Added to that of an expendable child and so of all that it starts; without privileges it can't be taken back."""

STACKS_SIGNAL = signal.SIGUSR2
"""On this signal a child writes the stacks of its threads and tasks, also while Python code is stuck (`stacks`)."""


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fork a child for `entry` (`module:function`).

    Its descriptors come along: commands, reports, log, stacks (the file of `stacks.new_file`). Without the last, stacks
    go into the log.
    """

    id: int
    name: str
    entry: str
    mark: str
    """`key/incarnation`, for the environment of the child and of all that it starts."""
    open_files: int = 0
    memory: int = 0
    """Bytes of data (RLIMIT_DATA) that it may have beyond what it inherits; 0 for no limit of its own."""
    file_size: int = 0
    """Bytes that one file of it may grow to; 0 for no limit."""
    cgroup: str = ""
    """Folder of the control group to enter; empty for none."""
    expendable: bool = False
    """When processor or memory are short, this child suffers before supervisor, `control` and servers."""


class SpawnReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pid of the child, or why there is none. `id` 0 is the forkserver's own readiness."""

    id: int
    pid: int | None = None
    error: str | None = None
