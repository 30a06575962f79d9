"""One rolling restart, performed: wave by wave from a new generation of the forkserver, and back when it does harm.

What it decides is in `rollout`; that there is only one at a time is `rollout_keeper`'s affair.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace

import structlog

from botctl.control.ports import BotSight, FleetSight, GenerationsPort
from botctl.control.rollouts import environment as rollout_environment
from botctl.control.rollouts.back import WayBack, end, to_bring_back
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.environment import Environment
from botctl.control.rollouts.reach import Reach
from botctl.control.rollouts.rules import Ledger, Return, Tally, allowance, enough, fall, is_of, returned, takes_part
from botctl.control.rollouts.story import Story, bots, listed
from botctl.control.views import RolloutLine
from botctl.errors import BotctlError
from botctl.fleet import BotSpec, Fleet

_log = structlog.get_logger("botctl.control.rollouts.rules")

PRELOAD_TIMEOUT = 70.0
"""Seconds for a new generation to be ready; the launcher gives it up after 60."""


class _HarmError(Exception):
    """The rollout must be taken back, and why."""


class RollingRestart:
    """`run`, `recover` or `clear_up` once; `lines` are what it has said.

    `generation` is of the forkserver it starts bots from; once it is `promoted`, there is no way back.
    """

    def __init__(self, supervisor: GenerationsPort, fleet: Fleet, code: CodeKeeper) -> None:
        self.generation = 0
        self.promoted = False
        self._story = Story()
        self._reach = Reach(supervisor)
        self._fleet = fleet
        self._code = code
        self._abort = ""
        self._watches = False
        self._assigned = False
        self._old: dict[int, str] = {}
        self._before: dict[int, BotSight] = {}
        self._ledgers: dict[int, Ledger] = {}
        self._environment = Environment()

    @property
    def lines(self) -> list[RolloutLine]:
        """What it has said."""
        return self._story.lines

    @property
    def over(self) -> bool:
        """Whether the last line was said."""
        return self._story.over

    def follow(self) -> AsyncIterator[RolloutLine]:
        """Every line, from the first one, until it is over."""
        return self._story.follow()

    def abort(self, why: str) -> None:
        """Take it back; harmless when it is being taken back already."""
        self._abort = why

    async def run(self, plan: Sequence[Sequence[BotSight]], settle: float | None) -> None:
        """Restart wave after wave; with `settle`, replies are watched for so many seconds after each."""
        self._watches = settle is not None
        try:
            fresh = await self._prepare()
            for number, wave in enumerate(plan, start=1):
                await self._wave(f"wave {number} of {len(plan)}", wave, settle)
            old = await self._promote()
        except _HarmError as harm:
            await self._take_back(str(harm))
        except BotctlError as error:
            await self._take_back(error.message)
        except Exception as error:
            _log.exception("the rollout broke")
            await self._take_back(f"internal error: {type(error).__name__}")
        else:
            await self._finish(fresh, old)

    async def recover(self, sight: FleetSight, generation: int) -> None:
        """Take back what another `control` has left half done: a generation that serves nobody but some bots."""
        self.generation = generation
        self._assigned = True
        self._old = self._old_code(sight)
        for bot in sight.bots:
            if is_of(bot, generation) and to_bring_back(bot, generation):
                self._before[bot.bot_id] = bot
        await self._take_back("the control process ended in the middle of it")

    async def clear_up(self, generation: int) -> None:
        """What another `control` has left to do after the promotion: end the old generation."""
        self.promoted = True
        try:
            if handled := self._with_handlers():
                # What bots start from now on is what stands on disk, whether that was still noted or not.
                self._code.started([bot.bot_id for bot in handled], await self._code.keep(self._fleet.folder))
            await end(generation, self._reach, self._story)
        except Exception:
            _log.exception("the rollout can't be cleared up")
        text = "done: the control process ended after every bot was restarted, and the next one has cleared up"
        await self._story.say(text, outcome="done")

    # --- the way there ---------------------------------------------------------------------------------------------

    async def _prepare(self) -> str:
        self._old = self._old_code(await self._reach.sight())
        fresh = ""
        if handled := self._with_handlers():
            fresh = await self._code.keep(self._fleet.folder)
            if lacking := [bot.name for bot in handled if bot.bot_id not in self._old]:
                why = f" ({self._code.problem})" if self._code.problem else ""
                text = f"the old code of {listed(lacking)} can't be brought back: no copy was kept{why}"
                await self._story.say(text, warning=True)
        await self._story.say("starting a new generation of the forkserver")
        done, message, number = await self._reach.generation("renew")
        if not done and number:  # left by somebody who has gone
            await self._reach.generation("retire", number)
            done, message, number = await self._reach.generation("renew")
        if not done:
            raise BotctlError(message)
        self.generation = number
        await self._until_ready()
        # A bot that crashes before its turn must not meet the new code by chance.
        self._assigned = True
        self._reach.assign([bot.bot_id for bot in self._fleet.bots], 0, self._paths())
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
        now = await self._well_look([bot.bot_id for bot in planned])
        wave = [bot for one in planned if (bot := now.bot(one.bot_id)) is not None and takes_part(bot)]
        if not wave:
            await self._story.say(f"{label}: nobody left to restart")
            return
        ids = [bot.bot_id for bot in wave]
        self._environment.begin_wave(ids, now)
        for bot in wave:
            self._before[bot.bot_id] = bot
            self._ledgers[bot.bot_id] = Ledger(bot)
        self._reach.assign(ids, self.generation, {})
        for bot in wave:
            await self._reach.command("restart", bot.name, f"rolling restart, {label}")
        deadline = self._clock() + allowance(self._fleet, wave)
        while self._away(wave, await self._well_look(ids), late=self._clock() >= deadline):
            pass
        text = f"{label}: {listed([bot.name for bot in wave])} running"
        if settle is not None:
            await self._watch(wave, settle)
            total = self._tally(wave)
            text += f", {total.handled:g} of {total.attempts:g} answered" if total.attempts else ", no update came"
        await self._story.say(text)

    async def _watch(self, wave: Sequence[BotSight], settle: float) -> None:
        deadline = self._clock() + settle
        while self._clock() < deadline:
            sight = await self._well_look([bot.bot_id for bot in wave])
            everybody = list(self._before.values())
            self._away(everybody, sight, late=False)
            for part in (wave, everybody):
                if worse := fall(Tally.total(map(Tally.of, part)), self._tally(part)):
                    raise _HarmError(worse)
            if enough([self._ledgers[bot.bot_id].tally for bot in wave]):
                return

    async def _promote(self) -> list[int]:
        """Let the new generation serve everybody; the old ones. Raises BotctlError when it does not."""
        old = [one.generation for one in (await self._reach.sight()).forkservers if one.promoted]
        try:
            done, message, _ = await self._reach.generation("promote", self.generation)
        except BotctlError as error:
            # It may have been done all the same: what is asked later is answered later, so the view knows.
            servers = (await self._reach.sight()).forkservers
            done, message = any(one.promoted and one.generation == self.generation for one in servers), error.message
        if not done:
            raise BotctlError(message)
        self.promoted = True
        return old

    async def _finish(self, fresh: str, old: Sequence[int]) -> None:
        """Every bot runs and will run the new code: from here on nothing is taken back, whatever happens."""
        try:
            self._code.started([bot.bot_id for bot in self._with_handlers()], fresh)
            for generation in old:
                await end(generation, self._reach, self._story)
        except Exception:
            _log.exception("the rollout is done, but can't be cleared up")
        text = f"done: {bots(len(self._before))} restarted"
        if (total := self._tally(self._before.values())).attempts:
            text += f", {total.handled:g} of {total.attempts:g} updates answered meanwhile"
        elif self._watches:
            text += "; no update came meanwhile, so that how they answer is not known"
        await self._story.say(text, outcome="done")

    async def _take_back(self, why: str) -> None:
        way = WayBack(self._reach, self._story, self._fleet, self._paths())
        await way.take(why, self._before, self.generation, assigned=self._assigned)

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> FleetSight:
        """The next view of the fleet, with everybody's replies noted. Raises _HarmError after an abort."""
        if self._abort:
            raise _HarmError(self._abort)
        sight = await self._reach.look()
        for bot_id, ledger in self._ledgers.items():
            if (bot := sight.bot(bot_id)) is not None:
                ledger.take(bot)
        return sight

    async def _well_look(self, concerned: Collection[int]) -> FleetSight:
        """The next view in which the environment is well. Raises _HarmError when it does not become so.

        What bots fail at meanwhile is forgiven them, unless only those have failed that run the new code.
        """
        waiting = False
        while (trouble := self._environment.look(sight := await self._look(), concerned, time.monotonic())) is not None:
            if not trouble.suspect:
                self._forgive(sight)
            self._away(list(self._before.values()), sight, late=False)
            if self._environment.too_long:
                exonerated = "" if trouble.suspect else "; nothing is known against the code"
                raise _HarmError(f"{trouble.why}, for {rollout_environment.PATIENCE:g} s{exonerated}")
            if not waiting:
                await self._story.say(f"waiting: {trouble.why}", warning=True)
            waiting = True
        if waiting:
            await self._story.say("going on")
        return sight

    def _forgive(self, sight: FleetSight) -> None:
        for bot_id, before in self._before.items():
            if (now := sight.bot(bot_id)) is not None:
                self._before[bot_id] = replace(before, failures=now.failures)

    def _clock(self) -> float:
        return self._environment.clock(time.monotonic())

    def _away(self, those: Collection[BotSight], sight: FleetSight, *, late: bool) -> list[BotSight]:
        """Those who are not back yet. Raises _HarmError for one that is lost."""
        away = []
        for bot in those:
            was, now = self._before[bot.bot_id], sight.bot(bot.bot_id)
            how, why = returned(was, now, late=late, generation=self.generation)
            if how is Return.LOST:
                raise _HarmError(f"{bot.name} {why}")
            if how is Return.UNDER_WAY:
                away.append(bot)
        return away

    def _tally(self, those: Iterable[BotSight]) -> Tally:
        return Tally.total(self._ledgers[bot.bot_id].tally for bot in those if bot.bot_id in self._ledgers)

    # --- small things ----------------------------------------------------------------------------------------------

    def _old_code(self, sight: FleetSight) -> dict[int, str]:
        found = {bot.bot_id: self._code.name_of(bot.bot_id) for bot in sight.bots}
        return {bot_id: name for bot_id, name in found.items() if name}

    def _paths(self) -> dict[int, str]:
        return {bot_id: self._code.path_of(name) for bot_id, name in self._old.items()}

    def _with_handlers(self) -> list[BotSpec]:
        return [bot for bot in self._fleet.bots if bot.handlers is not None]
