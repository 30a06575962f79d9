"""What supervision wants done. Values that `runtime` performs; none of them waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AskTurn:
    """Have `Admitted` reported when its turn to start has come."""


@dataclass(frozen=True)
class Spawn:
    """Make a process for this incarnation."""

    incarnation: int


@dataclass(frozen=True)
class AskStop:
    """Tell the child, by its pipe, to drain and end within `timeout` seconds."""

    timeout: float


@dataclass(frozen=True)
class Terminate:
    """Send TERM to the child."""


@dataclass(frozen=True)
class Kill:
    """Send KILL to the child and its process group."""


@dataclass(frozen=True)
class DumpStacks:
    """Make the child write down the stacks of its threads and tasks."""


Action = AskTurn | Spawn | AskStop | Terminate | Kill | DumpStacks
