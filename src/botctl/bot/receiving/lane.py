"""One lane: the rows of it that are in memory, and what is to be known of it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from botctl.storage.inbox import InboxRow


class LaneState(Enum):
    """`READY` waits for its turn, `BUSY` has a row under way, `SLEEPING` waits for its next attempt."""

    IDLE = "idle"
    READY = "ready"
    BUSY = "busy"
    SLEEPING = "sleeping"


@dataclass(slots=True)
class Lane:
    """Rows in their order, the one under way first."""

    rows: deque[InboxRow] = field(default_factory=deque)
    state: LaneState = LaneState.IDLE
    wake_at: float = 0.0
    overflowed: bool = False
    """Rows behind those in memory wait in the database."""
    fresh: bool = False
    """Its rows count for the reserve."""
    prompt: bool = False
    """Nothing waited of it when its first row came: it need not queue behind all who have a backlog."""
    held: bool = False
    """Busy with something else of its chat: none of its rows is under way."""

    @property
    def begun(self) -> bool:
        """Whether its first row was begun, or waits for its next attempt."""
        return bool(self.rows) and ((self.state is LaneState.BUSY and not self.held) or self.rows[0].attempts > 0)

    @property
    def last(self) -> int:
        """The inbox_id behind which its rows are not in memory; 0 for none.

        The first row, when it was begun, may stand before lower ones: it says nothing of those.
        """
        return 0 if not self.rows or (len(self.rows) == 1 and self.begun) else self.rows[-1].inbox_id
