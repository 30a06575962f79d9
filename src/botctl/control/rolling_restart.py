"""One rolling restart, performed: wave by wave from a new generation of the forkserver, and back when it does harm.

What it decides is in `rollout`; that there is only one at a time is `rollout_keeper`'s affair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import TypeVar

import structlog

from botctl.control.code_keeper import CodeKeeper
from botctl.control.ports import BotSight, FleetSight, GenerationsPort
from botctl.control.rollout import Ledger, Return, Tally, enough, fall, returned, takes_part
from botctl.control.views import RolloutLine
from botctl.errors import BotctlError
from botctl.fleet import BotSpec, Fleet

_log = structlog.get_logger("botctl.control.rollout")

PRELOAD_TIMEOUT = 70.0
"""Seconds for a new generation to be ready; the launcher gives it up after 60."""

_POLL = 0.2
_POLL_A_BOT = 0.0005
"""Seconds between looks at the fleet, and more for a large one: each is the whole view."""

_PATIENCE = 30.0
"""Seconds that the supervisor may not answer."""

_MARGIN = 10.0
"""Seconds a bot is given beyond its own stop and ready times: for its turn to start, and for one crash."""

_NAMED = 6
"""Names in a line; the others are counted."""


_T = TypeVar("_T")


class _HarmError(Exception):
    """The rollout must be taken back, and why."""


class RollingRestart:
    """`run` or `recover` once; `lines` are what it has said. `generation` is of the forkserver it starts bots from."""

    def __init__(self, supervisor: GenerationsPort, fleet: Fleet, code: CodeKeeper) -> None:
        self.lines: list[RolloutLine] = []
        self.over = False
        self.generation = 0
        self._supervisor = supervisor
        self._fleet = fleet
        self._code = code
        self._abort = ""
        self._going_back = False
        self._assigned = False
        self._old: dict[int, str] = {}
        self._before: dict[int, BotSight] = {}
        self._ledgers: dict[int, Ledger] = {}
        self._news = asyncio.Condition()

    def abort(self, why: str) -> None:
        """Take it back; harmless when it is being taken back already."""
        self._abort = why

    async def follow(self) -> AsyncIterator[RolloutLine]:
        """Every line, from the first one, until it is over."""
        told = 0

        def has_news() -> bool:
            return self.over or len(self.lines) > told

        while not self.over or told < len(self.lines):
            async with self._news:
                await self._news.wait_for(has_news)
            for line in self.lines[told:]:
                told += 1
                yield line

    async def run(self, plan: Sequence[Sequence[BotSight]], settle: float | None) -> None:
        """Restart wave after wave; with `settle`, replies are watched for so many seconds after each."""
        try:
            fresh = await self._prepare()
            for number, wave in enumerate(plan, start=1):
                await self._wave(f"wave {number} of {len(plan)}", wave, settle)
            await self._finish(fresh)
        except _HarmError as harm:
            await self._take_back(str(harm))
        except BotctlError as error:
            await self._take_back(error.message)
        except Exception as error:
            _log.exception("the rollout broke")
            await self._take_back(f"internal error: {type(error).__name__}")

    async def recover(self, sight: FleetSight, generation: int) -> None:
        """Take back what another `control` has left half done: a generation that serves nobody but some bots."""
        self.generation = generation
        self._assigned = True
        self._old = self._old_code(sight)
        for bot in sight.bots:
            if bot.forkserver in (0, generation) and takes_part(bot):
                self._before[bot.bot_id] = bot
        await self._take_back("the control process ended in the middle of it")

    # --- the way there ---------------------------------------------------------------------------------------------

    async def _prepare(self) -> str:
        self._old = self._old_code(await self._sight())
        fresh = ""
        if handled := self._with_handlers():
            fresh = await self._code.keep(self._fleet.folder)
            if lacking := [bot.name for bot in handled if bot.bot_id not in self._old]:
                why = f" ({self._code.problem})" if self._code.problem else ""
                text = f"the old code of {_listed(lacking)} can't be brought back: no copy was kept{why}"
                await self._say(text, warning=True)
        await self._say("starting a new generation of the forkserver")
        done, message, number = await self._command_generation("renew")
        if not done and number:  # left by somebody who has gone
            await self._command_generation("retire", number)
            done, message, number = await self._command_generation("renew")
        if not done:
            raise BotctlError(message)
        self.generation = number
        await self._until_ready()
        # A bot that crashes before its turn must not meet the new code by chance.
        self._assigned = True
        self._supervisor.assign([bot.bot_id for bot in self._fleet.bots], 0, self._paths())
        return fresh

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + PRELOAD_TIMEOUT
        while True:
            sight = await self._look()
            server = next((one for one in sight.forkservers if one.generation == self.generation), None)
            if server is not None and server.state == "ready":
                return
            if server is None or server.state == "failed" or time.monotonic() >= deadline:
                why = server.error if server is not None and server.error else "it is not ready in time"
                raise _HarmError(f"the new generation can't start: {why}")

    async def _wave(self, label: str, planned: Sequence[BotSight], settle: float | None) -> None:
        now = await self._sight()
        wave = [bot for one in planned if (bot := now.bot(one.bot_id)) is not None and takes_part(bot)]
        if not wave:
            await self._say(f"{label}: nobody left to restart")
            return
        for bot in wave:
            self._before[bot.bot_id] = bot
            self._ledgers[bot.bot_id] = Ledger(bot)
        self._supervisor.assign([bot.bot_id for bot in wave], self.generation, {})
        for bot in wave:
            await self._command("restart", bot.name, f"rolling restart, {label}")
        deadline = time.monotonic() + self._allowance(wave)
        while self._away(wave, await self._look(), late=time.monotonic() >= deadline):
            pass
        text = f"{label}: {_listed([bot.name for bot in wave])} running"
        if settle is not None:
            await self._watch(wave, settle)
            total = self._tally(wave)
            text += f", {total.handled:g} of {total.attempts:g} answered"
        await self._say(text)

    async def _watch(self, wave: Sequence[BotSight], settle: float) -> None:
        deadline = time.monotonic() + settle
        while time.monotonic() < deadline:
            sight = await self._look()
            everybody = list(self._before.values())
            self._away(everybody, sight, late=False)
            for part in (wave, everybody):
                if worse := fall(Tally.total(map(Tally.of, part)), self._tally(part)):
                    raise _HarmError(worse)
            if enough([self._ledgers[bot.bot_id].tally for bot in wave]):
                return

    async def _finish(self, fresh: str) -> None:
        old = [one.generation for one in (await self._sight()).forkservers if one.promoted]
        done, message, _ = await self._command_generation("promote", self.generation)
        if not done:
            raise BotctlError(message)
        self._code.started([bot.bot_id for bot in self._with_handlers()], fresh)
        for generation in old:
            await self._command_generation("retire", generation)
        text = f"done: {_bots(len(self._before))} restarted"
        if (total := self._tally(self._before.values())).attempts:
            text += f", {total.handled:g} of {total.attempts:g} updates answered meanwhile"
        await self._say(text, outcome="done")

    # --- the way back ----------------------------------------------------------------------------------------------

    async def _take_back(self, why: str) -> None:
        """The end must be told whatever happens: somebody waits for it."""
        self._going_back = True
        try:
            missing = await self._go_back(why)
        except Exception as error:
            _log.exception("the rollout can't be taken back")
            what = error.message if isinstance(error, BotctlError) else type(error).__name__
            await self._say(f"it could not be rolled back: {what}", warning=True, outcome="failed")
            return
        text = f"rolled back: {why}" if self._before else f"nothing was restarted: {why}"
        if missing:
            text += f"; these do not run: {_listed(missing)}"
        await self._say(text, warning=True, outcome="rolled back" if self._before and not missing else "failed")

    async def _go_back(self, why: str) -> list[str]:
        if self._before:
            names = _listed([bot.name for bot in self._before.values()])
            await self._say(f"rolling back {names}: {why}", warning=True)
        sight = await self._sight()
        if self._assigned:
            # Also those whose turn had not come: they stay with the code that they run, whatever stands on disk.
            self._supervisor.assign([bot.bot_id for bot in self._fleet.bots], 0, self._paths())
        asked = []
        for bot_id in self._before:
            bot = sight.bot(bot_id)
            if bot is None or (not bot.wanted and bot.state != "quarantined"):
                continue
            await self._command("release" if bot.state == "quarantined" else "restart", bot.name, "rolled back")
            asked.append(bot)
        missing = await self._until_back(asked)
        if self.generation:
            await self._command_generation("retire", self.generation)
        return missing

    async def _until_back(self, asked: Sequence[BotSight]) -> list[str]:
        """Names of those who did not come back."""
        deadline = time.monotonic() + self._allowance(asked)
        waiting, missing = list(asked), []
        while waiting:
            sight = await self._look()
            late = time.monotonic() >= deadline
            for was in tuple(waiting):
                now = sight.bot(was.bot_id)
                if now is not None and now.state == was.state == "quarantined" and not late:
                    continue  # a release takes a moment
                how, _ = returned(was, now, late=late)
                if how is not Return.UNDER_WAY:
                    waiting.remove(was)
                if how is Return.LOST:
                    missing.append(was.name)
        return missing

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> FleetSight:
        """The next view of the fleet, with everybody's replies noted. Raises _HarmError after an abort."""
        if self._abort and not self._going_back:
            raise _HarmError(self._abort)
        sight = await self._sight()
        await asyncio.sleep(_POLL + _POLL_A_BOT * len(sight.bots))
        for bot_id, ledger in self._ledgers.items():
            if (bot := sight.bot(bot_id)) is not None:
                ledger.take(bot)
        return sight

    def _away(self, bots: Collection[BotSight], sight: FleetSight, *, late: bool) -> list[BotSight]:
        """Those who are not back yet. Raises _HarmError for one that is lost."""
        away = []
        for bot in bots:
            was, now = self._before[bot.bot_id], sight.bot(bot.bot_id)
            how, why = returned(was, now, late=late, generation=self.generation)
            if how is Return.LOST:
                raise _HarmError(f"{bot.name} {why}")
            if how is Return.UNDER_WAY:
                away.append(bot)
        return away

    def _tally(self, bots: Collection[BotSight]) -> Tally:
        return Tally.total(self._ledgers[bot.bot_id].tally for bot in bots if bot.bot_id in self._ledgers)

    # --- the supervisor --------------------------------------------------------------------------------------------

    async def _sight(self) -> FleetSight:
        return await self._asked(self._supervisor.sight, patience=_PATIENCE)

    async def _command_generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        return await self._asked(lambda: self._supervisor.generation(verb, number))

    async def _command(self, verb: str, name: str, reason: str) -> None:
        """One that is refused has changed its state meanwhile; the next look tells."""
        ok, message = await self._asked(lambda: self._supervisor.command(verb, name, reason))
        if not ok:
            _log.warning("command refused", verb=verb, bot=name, reason=message)

    @staticmethod
    async def _asked(ask: Callable[[], Awaitable[_T]], *, patience: float = 0.0) -> _T:
        deadline = time.monotonic() + patience
        while True:
            try:
                return await ask()
            except TimeoutError as error:
                if time.monotonic() >= deadline:
                    raise BotctlError("the supervisor does not answer") from error

    # --- small things ----------------------------------------------------------------------------------------------

    def _old_code(self, sight: FleetSight) -> dict[int, str]:
        found = {bot.bot_id: self._code.name_of(bot.bot_id) for bot in sight.bots}
        return {bot_id: name for bot_id, name in found.items() if name}

    def _paths(self) -> dict[int, str]:
        return {bot_id: self._code.path_of(name) for bot_id, name in self._old.items()}

    def _with_handlers(self) -> list[BotSpec]:
        return [bot for bot in self._fleet.bots if bot.handlers is not None]

    def _allowance(self, bots: Sequence[BotSight]) -> float:
        ids = {bot.bot_id for bot in bots}
        policies = [spec.restart for spec in self._fleet.bots if spec.bot_id in ids]
        longest = max((policy.stop_timeout + policy.ready_timeout for policy in policies), default=0.0)
        return longest + _MARGIN + 0.1 * len(bots)

    async def _say(self, text: str, *, warning: bool = False, outcome: str | None = None) -> None:
        _log.info("rollout", says=text)
        async with self._news:
            self.lines.append(RolloutLine(at=time.time(), text=text, warning=warning, outcome=outcome))
            self.over = outcome is not None
            self._news.notify_all()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _bots(count: int) -> str:
    return "1 bot" if count == 1 else f"{count} bots"
