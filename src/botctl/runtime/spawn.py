"""What launcher and forkserver say to each other, and the signal both sides of a fork agree on. Slim."""

from __future__ import annotations

import signal

import msgspec

REQUEST_LIMIT = 64 * 1024
"""Bytes of one request."""

STACKS_SIGNAL = signal.SIGUSR2
"""On this signal a child writes the stacks of all its threads into its log, also while Python code is stuck."""


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fork a child for `entry` (`module:function`). Its three descriptors come along: commands, reports, log."""

    id: int
    name: str
    entry: str
    mark: str
    """`key/incarnation`, for the environment of the child and of all that it starts."""
    open_files: int = 0
    memory: int = 0


class SpawnReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pid of the child, or why there is none. `id` 0 is the forkserver's own readiness."""

    id: int
    pid: int | None = None
    error: str | None = None
