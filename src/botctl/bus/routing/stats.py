"""What the router counts, for status and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botctl.bus.caretaking.janitor import Janitor


@dataclass
class RouterStats:
    """What the router has done since the process began.

    `vanished`: entries that their bot has cut off its out stream before they were routed, as far as can be counted.
    `paused_bots`: how often one was kept off Redis for a while.

    `refused_requests`: answered with an error at once; `expired`: requests that came too late to be delivered, and
    replies that nobody waits for any more. `remade_mailboxes` were missing. `taken_over`: entries of groups handed out
    anew because a member had left them; `given_up`: those that became dead letters. `group_depths`: entries nobody has
    acknowledged, by group; `group_pending`: those of them that a member has read.
    """

    healthy: bool = True
    reason: str = ""
    routed: int = 0
    delivered: int = 0
    rejected: int = 0
    duplicates: int = 0
    dropped: int = 0
    replaced_streams: int = 0
    vanished: int = 0
    paused_bots: int = 0
    doorbell: bool = False
    requests: int = 0
    replies: int = 0
    refused_requests: int = 0
    expired: int = 0
    remade_mailboxes: int = 0
    taken_over: int = 0
    given_up: int = 0
    group_depths: dict[str, int] = field(default_factory=dict)
    group_pending: dict[str, int] = field(default_factory=dict)

    def tidied(self, janitor: Janitor, groups: Iterable[str]) -> None:
        """Take over what the janitor has counted."""
        self.dropped, self.replaced_streams = janitor.dropped, janitor.outs.replaced
        self.remade_mailboxes = janitor.remade
        self.taken_over, self.given_up = janitor.groups.taken_over, janitor.groups.given_up
        self.group_depths = {name: janitor.mailbox_depths.get(name, 0) for name in groups}
        self.group_pending = dict(janitor.groups.pending)
