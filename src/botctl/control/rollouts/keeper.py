"""One rolling restart at a time: begins it, tells of it, takes it back on request or when an earlier `control` left it.

It needs no client: whoever follows may go away. What it does is `rolling_restart`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from botctl.control.ports import BotSight, GenerationsPort
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.rolling_restart import RollingRestart
from botctl.control.rollouts.rules import WaveSize, takes_part, waves
from botctl.control.views import RolloutBody, RolloutLine
from botctl.errors import BotctlError, RefusedError
from botctl.fleet import Fleet


class RolloutKeeper:
    """`fleet` gives the wanted fleet."""

    def __init__(self, supervisor: GenerationsPort, fleet: Callable[[], Fleet | None], code: CodeKeeper) -> None:
        self._supervisor = supervisor
        self._fleet = fleet
        self._code = code
        self._rollout: RollingRestart | None = None
        self._beginning = False
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether a rolling restart is under way."""
        return self._beginning or (self._rollout is not None and not self._rollout.over)

    @property
    def says(self) -> str:
        """What the one under way has said last; empty when there is none."""
        if not self.running:
            return ""
        lines = self._rollout.lines if self._rollout is not None else []
        return lines[-1].text if lines else "it begins"

    def refuse_beside(self, what: str) -> None:
        """Raises RefusedError while a rolling restart is under way."""
        if not self.running:
            return
        lines = self._rollout.lines if self._rollout is not None else []
        last = f", which says: {lines[-1].text}" if lines else ""
        raise RefusedError(
            f"{what} has to wait for the rolling restart that is under way{last}",
            hint="`botctl restart --abort` takes it back.",
        )

    async def begin(self, size: WaveSize, *, settle: float | None) -> RolloutBody:
        """Start one; with `settle`, replies are watched for so many seconds after each wave.

        Raises RefusedError while another is under way.
        """
        self.refuse_beside("another one")
        self._beginning = True
        try:
            fleet = self._fleet()
            part = await self._who_takes_part(fleet)
            if fleet is None or not part:
                raise BotctlError("no bot runs that could be restarted", hint="See `botctl status`.")
            plan = waves(part, size)
            self._rollout = RollingRestart(self._supervisor, fleet, self._code)
            self._task = asyncio.create_task(self._rollout.run(plan, settle), name="rollout")
        finally:
            self._beginning = False
        return RolloutBody(bots=len(part), waves=len(plan))

    def abort(self) -> None:
        """Take back the one that is under way. Raises RefusedError when there is none."""
        if self._rollout is None or self._rollout.over:
            raise RefusedError("no rolling restart is under way")
        if self._rollout.promoted:
            raise RefusedError("the rolling restart is done; only the old forkserver is still being ended")
        self._rollout.abort("aborted by operator")

    async def follow(self) -> AsyncIterator[RolloutLine]:
        """What the one under way, or the last one, has said and says, until it is over."""
        if self._rollout is not None:
            async for line in self._rollout.follow():
                yield line

    async def recover(self) -> None:
        """Take back what an earlier `control` has left half done, or clear up after it. Raises TimeoutError."""
        sight, fleet = await self._supervisor.sight(), self._fleet()
        left = next((one.generation for one in sight.forkservers if not one.promoted), None)
        if left is None or fleet is None or self.running:
            return
        promoted = max((one.generation for one in sight.forkservers if one.promoted), default=0)
        self._rollout = RollingRestart(self._supervisor, fleet, self._code)
        # Numbers only grow: one that is older than what serves everybody has been replaced by it.
        rest = self._rollout.recover(sight, left) if left > promoted else self._rollout.clear_up(left)
        self._task = asyncio.create_task(rest, name="rollout")

    async def close(self) -> None:
        """Let go, for the end of `control`; the next one takes back what was not finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _who_takes_part(self, fleet: Fleet | None) -> list[BotSight]:
        try:
            sight = await self._supervisor.sight()
        except TimeoutError as error:
            raise BotctlError("the supervisor does not answer", hint="Look into the log `daemon`.") from error
        found = (sight.bot(spec.bot_id) for spec in (fleet.bots if fleet is not None else ()))
        return [bot for bot in found if bot is not None and takes_part(bot)]
