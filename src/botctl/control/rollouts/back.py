"""The way back of a rolling restart: to the old forkserver and to the old code of handlers, whatever stands on disk.

It touches only bots that the rollout has restarted, and none that somebody has stopped or shut away meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from botctl.control.ports import BotSight
from botctl.control.rollouts.reach import Reach
from botctl.control.rollouts.rules import Return, allowance, is_of, returned
from botctl.control.rollouts.story import Story, listed
from botctl.errors import BotctlError
from botctl.fleet import Fleet

_log = structlog.get_logger("botctl.control.rollouts.rules")

_TRIES = 3
"""How often a forkserver is asked to be ended; each may take the seconds that an answer may."""


class _Unwell(NamedTuple):
    """Names of bots."""

    missing: list[str]
    paused: list[str]


class WayBack:
    """`code` are folders of the copies of the old code, by bot_id, as far as there are any."""

    def __init__(self, reach: Reach, story: Story, fleet: Fleet, code: Mapping[int, str]) -> None:
        self._reach = reach
        self._story = story
        self._fleet = fleet
        self._code = code

    async def take(self, why: str, before: Mapping[int, BotSight], generation: int, *, assigned: bool) -> None:
        """Take back those of `before`. The end is told whatever happens: somebody waits for it.

        `generation` is the new one, 0 when there is none; `assigned`: it was said what bots start from.
        """
        try:
            missing, paused = await self._go_back(why, before, generation, assigned)
        except Exception as error:
            _log.exception("the rollout can't be taken back")
            what = error.message if isinstance(error, BotctlError) else type(error).__name__
            await self._story.say(f"it could not be rolled back: {what}", warning=True, outcome="failed")
            return
        text = f"rolled back: {why}" if before else f"nothing was restarted: {why}"
        if missing:
            text += f"; these do not run: {listed(missing)}"
        if paused:
            text += f"; these are paused: {listed(paused)}"
        await self._story.say(text, warning=True, outcome="failed" if missing else "rolled back")

    async def _go_back(self, why: str, before: Mapping[int, BotSight], generation: int, assigned: bool) -> _Unwell:
        if before:
            names = listed([bot.name for bot in before.values()])
            await self._story.say(f"rolling back {names}: {why}", warning=True)
        sight = await self._reach.sight()
        asked = [bot for bot_id in before if (bot := sight.bot(bot_id)) is not None and to_bring_back(bot, generation)]
        if assigned:
            # Also those whose turn had not come: they stay with the code that they run, whatever stands on disk.
            ids = {bot.bot_id for bot in asked}
            self._reach.assign([bot.bot_id for bot in self._fleet.bots if bot.bot_id not in ids], 0, self._code)
        for bot in asked:
            # One by one: should we end in the middle, those that are left still show that the rollout had them.
            self._reach.assign([bot.bot_id], 0, self._code)
            await self._reach.command("release" if bot.state == "quarantined" else "restart", bot.name, "rolled back")
        unwell = await self._until_back(asked)
        if generation:
            await end(generation, self._reach, self._story)
        return unwell

    async def _until_back(self, asked: Sequence[BotSight]) -> _Unwell:
        """Those who did not come back, and those who came back and wait for the database."""
        deadline = time.monotonic() + allowance(self._fleet, asked)
        waiting, unwell = list(asked), _Unwell([], [])
        while waiting:
            sight = await self._reach.look()
            late = time.monotonic() >= deadline
            for was in tuple(waiting):
                now = sight.bot(was.bot_id)
                if now is not None and now.state == was.state == "quarantined" and not (now.shut_away or late):
                    continue  # a release takes a moment
                if now is not None and now.state == "paused" and now.incarnation > was.incarnation:
                    waiting.remove(was)
                    unwell.paused.append(was.name)
                    continue
                how, _ = returned(was, now, late=late)
                if how is not Return.UNDER_WAY:
                    waiting.remove(was)
                if how is Return.LOST:
                    unwell.missing.append(was.name)
        return unwell


async def end(generation: int, reach: Reach, story: Story) -> None:
    """End a generation of the forkserver that serves nobody any more; a warning where that can't be done now."""
    why = ""
    for _ in range(_TRIES):
        try:
            done, why, _ = await reach.generation("retire", generation)
        except BotctlError as error:
            why = error.message
        else:
            if done:
                return
    text = f"generation {generation} of the forkserver could not be ended: {why}; the next rolling restart ends it"
    await story.say(text, warning=True)


def to_bring_back(bot: BotSight, generation: int) -> bool:
    """Whether a bot that the rollout has touched is brought back: meant to run, or quarantined by the new code."""
    if bot.shut_away:
        return False
    return is_of(bot, generation) if bot.state == "quarantined" else bot.wanted
