"""A pretended supervisor for rolling restarts, and what is done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from botctl.control.fleet.starts import Starts
from botctl.control.ports import BotSight, FleetSight, ForkserverSight
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.rollouts.rules import WaveSize
from botctl.control.views import RolloutLine
from botctl.fleet import Fleet


class Pretended:
    """Bots that are back at once. `fresh` makes of a bot's sight what the new generation makes of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.bots = {
            spec.bot_id: BotSight(name=spec.name, bot_id=spec.bot_id, state="running", incarnation=1, forkserver=1)
            for spec in fleet.bots
        }
        self.servers = {1: ForkserverSight(generation=1, state="ready", promoted=True)}
        self.preloaded = ForkserverSight(generation=0, state="ready")
        self.sources: dict[int, tuple[int, str]] = dict.fromkeys(self.bots, (0, ""))
        self.commands: list[tuple[str, str]] = []
        self.fresh: Callable[[BotSight], BotSight] = lambda bot: bot
        self.silent = False
        self.breaker = ""
        self.meanwhile: Callable[[], None] = lambda: None

    def desire(self, fleet: Any) -> None:
        raise AssertionError

    def rotate(self, bot_id: int, passwords: Any) -> None:
        raise AssertionError

    def recorded(self, seq: int) -> None:
        raise AssertionError

    def assign(self, bots: Iterable[int], generation: int, code: Mapping[int, str]) -> None:
        for bot_id in bots:
            self.sources[bot_id] = (generation, code.get(bot_id, ""))

    async def sight(self) -> FleetSight:
        if self.silent:
            raise TimeoutError
        await asyncio.sleep(0)
        self.meanwhile()
        return FleetSight(
            pid=1, state="running", started_at=0.0, generation=1, breaker=self.breaker,
            bots=tuple(replace(bot, assigned=self.sources[one][0]) for one, bot in self.bots.items()),
            forkservers=tuple(self.servers.values()),
        )  # fmt: skip

    async def generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb == "renew":
            if others := [one for one, server in self.servers.items() if not server.promoted]:
                return False, "there is one already", others[0]
            number = max(self.servers) + 1
            self.servers[number] = replace(self.preloaded, generation=number)
        elif verb == "promote":
            self.servers = {one: replace(server, promoted=one == number) for one, server in self.servers.items()}
            self.sources = dict.fromkeys(self.sources, (0, ""))
        else:
            assert not self.servers[number].promoted
            del self.servers[number]
            self.sources = {one: (0 if of == number else of, copy) for one, (of, copy) in self.sources.items()}
        return True, "", number

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        self.commands.append((verb, name))
        bot = next(bot for bot in self.bots.values() if bot.name == name)
        if bot.state == "quarantined" and verb != "release":
            return False, "is quarantined"
        promoted = next(one for one, server in self.servers.items() if server.promoted)
        generation = self.sources[bot.bot_id][0] or promoted
        bot = replace(
            bot,
            incarnation=bot.incarnation + 1,
            forkserver=generation,
            state="running",
            wanted=True,
            counters={},
            shut_away=False,
        )
        self.bots[bot.bot_id] = self.fresh(bot) if generation != 1 else bot
        return True, ""

    def change(self, bot_id: int, **fields: Any) -> None:
        self.bots[bot_id] = replace(self.bots[bot_id], **fields)

    def forkservers(self) -> dict[str, int]:
        return {bot.name: bot.forkserver for bot in self.bots.values()}


async def started(fleet: Fleet, code: CodeKeeper) -> Pretended:
    """A fleet that was started with the old code, and whose code has changed since."""
    supervisor = Pretended(fleet)
    await Starts(supervisor, lambda: fleet, code).by_change(fleet, [bot.name for bot in fleet.bots])
    (Path(str(fleet.folder)) / "shop.py").write_text("new = 1\n")
    return supervisor


async def roll(keeper: RolloutKeeper, size: str = "2", settle: float | None = None) -> list[RolloutLine]:
    await keeper.begin(WaveSize.parse(size), settle=settle)
    return [line async for line in keeper.follow()]


def old_path(code: CodeKeeper) -> str:
    assert code.name_of(1)
    return code.path_of(code.name_of(1))


async def until_restarted(supervisor: Pretended, bot_id: int) -> None:
    async with asyncio.timeout(5):
        while supervisor.bots[bot_id].incarnation == 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
