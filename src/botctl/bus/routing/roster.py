"""The fleet as the router knows it: who subscribes to what, who answers what, who shares work. Pure.

Made once for each change of the fleet; the router compares by identity first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from botctl.bus.event_types.subscriptions import Subscription, subscription
from botctl.bus.topology import Receiver


@dataclass(frozen=True)
class Member:
    """One bot. One without a name only has an out stream that is still to be routed."""

    name: str = ""
    subscribe: tuple[Subscription, ...] = ()
    answers: tuple[Subscription, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Roster:
    """Bots by id; groups by name, each with what it subscribes to."""

    bots: Mapping[int, Member] = field(default_factory=dict)
    groups: Mapping[str, tuple[Subscription, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, subscribers: Mapping[int, Iterable[str | Subscription]]) -> Roster:
        """A fleet of which nothing but subscriptions is known."""
        return cls({bot: Member(subscribe=tuple(map(subscription, entries))) for bot, entries in subscribers.items()})

    def ids(self) -> dict[str, int]:
        """Bots' ids by name."""
        return {member.name: bot_id for bot_id, member in self.bots.items() if member.name}

    def members(self, group: str) -> frozenset[int]:
        """Who shares the group's work."""
        return frozenset(bot_id for bot_id, member in self.bots.items() if group in member.groups)

    def receivers(self) -> list[Receiver]:
        """Everybody who has a mailbox, groups included."""
        return [*(bot_id for bot_id in self.bots if bot_id), *self.groups]
