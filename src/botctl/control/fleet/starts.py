"""What bots are made of when an operator has them started: the code on disk, of which a copy is kept.

Rollouts have their own say; crashes are the supervisor's affair, and start from what was said here or there last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from botctl.control.ports import BotSight, FleetSight, GenerationsPort
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.fleet import Fleet


class Starts:
    """`fleet` gives the wanted fleet."""

    def __init__(self, supervisor: GenerationsPort, fleet: Callable[[], Fleet | None], code: CodeKeeper) -> None:
        self._supervisor = supervisor
        self._fleet = fleet
        self._code = code

    async def by_change(self, fleet: Fleet, names: Collection[str]) -> None:
        """These bots of a fleet that is being applied will be started. The supervisor forgets their copies itself."""
        await self._keep(fleet, {bot.bot_id for bot in fleet.bots if bot.name in names})

    async def by_command(self, verb: str, name: str, sight: FleetSight) -> None:
        """One bot, or all without a name, is told to start, restart or be released."""
        fleet = self._fleet()
        if fleet is None:
            return
        bots = {bot.bot_id for bot in sight.bots if name in ("", bot.name) and _starts(verb, bot)}
        self._supervisor.assign(bots, 0, {})
        await self._keep(fleet, bots)

    async def _keep(self, fleet: Fleet, bots: Collection[int]) -> None:
        if handled := [bot.bot_id for bot in fleet.bots if bot.handlers is not None and bot.bot_id in bots]:
            self._code.started(handled, await self._code.keep(fleet.folder))


def _starts(verb: str, bot: BotSight) -> bool:
    """Whether the command makes a new process of the bot."""
    if bot.state == "quarantined":
        return verb == "release"
    return verb == "restart" or (verb == "start" and bot.pid is None)
