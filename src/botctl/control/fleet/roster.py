"""The fleet as the router is to know it. Pure."""

from __future__ import annotations

from collections.abc import Collection

from botctl.bus.event_types.subscriptions import subscription
from botctl.bus.routing.roster import Member, Roster
from botctl.fleet import Fleet


def roster_of(fleet: Fleet | None, leaving: Collection[int]) -> Roster:
    """`leaving` are bots that the fleet has no more and whose events are still to be routed."""
    bots = dict.fromkeys(leaving, Member())
    if fleet is None:
        return Roster(bots)
    for bot in fleet.bots:
        bots[bot.bot_id] = Member(
            name=bot.name,
            subscribe=tuple(map(subscription, bot.subscribe)),
            answers=tuple(map(subscription, bot.answers)),
            groups=bot.groups,
        )
    return Roster(bots, {name: tuple(map(subscription, group.subscribe)) for name, group in fleet.groups.items()})


def groups_of(fleet: Fleet | None) -> dict[int, tuple[str, ...]]:
    """The groups that each bot shares work of; bots without one are left out."""
    return {bot.bot_id: bot.groups for bot in fleet.bots if bot.groups} if fleet is not None else {}
