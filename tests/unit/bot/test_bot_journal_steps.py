"""Each step of the journal, ended there: what rows and sends result, and what is counted as uncertain.

The real rules, caller, journal, sender and recovery over a journal and a Telegram in memory. A crash is an exception
that nobody catches; the next process begins with what was committed.
"""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from typing import Any, cast

import pytest
from telegram.error import BadRequest, Forbidden, RetryAfter, TelegramError

from botctl.bot.handling.scope import Scope, current
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.receiving.token_refusal import TokenRefusal
from botctl.bot.sending.calling import Caller
from botctl.bot.sending.flood import Flood, Rates
from botctl.bot.sending.flood_gate import FloodGate
from botctl.bot.sending.journal import Asked, NotRepeatedError, SendJournal
from botctl.bot.sending.recovery import Recovery
from botctl.bot.sending.send_states import SendStates
from botctl.bot.sending.sender import Outgoing, Sender, begun, send_row
from botctl.bot.sending.transport import NotSentError, OutcomeUnknownError
from botctl.bot.vitals.health import Health
from botctl.storage.sends import SendRow

CAUSE = "update:1"


class Crash(BaseException):
    """The process ends here."""


class World:
    """What outlives a process: committed rows, and messages that Telegram has taken."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], SendRow] = {}
        self.done = False
        self.arrived = 0
        self.calls = 0
        self.faults: list[TelegramError | str] = []
        """What the next calls meet: an error, or `before`/`after` the message has arrived the end of the process."""
        self.commits_left: int | None = None
        self.end_after_commit = False

    # The database: `end_after_commit` says on which side of the last allowed commit the process ends.

    async def transaction(self, work: Any) -> Any:
        if self.commits_left == 0:
            raise Crash
        kept = copy.copy(self.rows)
        result = await work(None)
        if self.commits_left is not None:
            self.commits_left -= 1
            if self.commits_left == 0:
                if not self.end_after_commit:
                    self.rows = kept
                raise Crash
        return result

    statement = transaction

    # The journal's rows, as their SQL has it.

    def _to(self, cause: str, n: int, whence: tuple[str, ...], **values: Any) -> None:
        row = self.rows.get((cause, n))
        if row is not None and row.state in whence:
            more = values.pop("more", 0)
            self.rows[cause, n] = dataclasses.replace(row, uncertain=row.uncertain + more, **values)

    async def plan(self, connection: Any, rows: list[SendRow]) -> None:
        for row in rows:
            self.rows.setdefault((row.cause, row.n), row)

    async def begin(self, connection: Any, cause: str, n: int) -> None:
        self._to(cause, n, ("planned",), state="sending")

    async def unbegin(self, connection: Any, cause: str, n: int, *, wait: float | None = None) -> None:
        self._to(cause, n, ("sending",), state="planned")

    async def hidden(self, connection: Any, cause: str, n: int, error: str, *, again: bool) -> None:
        self._to(cause, n, ("sending",), state="planned" if again else "skipped", error=error, more=1)

    async def failed(self, connection: Any, cause: str, n: int, error: str) -> None:
        self._to(cause, n, ("planned", "sending"), state="failed", error=error)

    async def failed_of_chat(self, connection: Any, chat_id: int, error: str) -> int:
        return 0

    async def of_cause(self, connection: Any, cause: str) -> list[SendRow]:
        return [row for (one, _), row in sorted(self.rows.items()) if one == cause]

    async def unfinished(self, connection: Any) -> list[SendRow]:
        return [row for row in self.rows.values() if row.mode == "deferred" and row.state in ("planned", "sending")]

    async def leave(self, connection: Any, cause: str | None, reason: str, *, again: bool, never: Any) -> int:
        return 0

    async def abandon(self, connection: Any, reason: str) -> int:
        return 0

    async def perform(self, *_: Any) -> Any:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise Crash
        if isinstance(fault, TelegramError):
            if isinstance(fault, OutcomeUnknownError) and fault.message == "after":
                self.arrived += 1
            raise fault
        self.arrived += 1
        if fault == "after":
            raise Crash
        return {"message_id": self.arrived, "chat": {"id": 1}}


class Recorder:
    def __init__(self, world: World) -> None:
        self._world = world

    async def inline(self, scope: Scope, n: int, method: str, payload: Any, result: Any) -> None:
        async def work(connection: Any) -> None:
            self._world._to(scope.cause, n, ("sending", "planned"), state="sent", result=result)

        await self._world.transaction(work)

    async def deferred(self, row: SendRow, result: Any, message: Any, *, begin_next: bool) -> None:
        async def work(connection: Any) -> None:
            self._world._to(row.cause, row.n, ("sending", "planned"), state="sent", result=result)
            if begin_next:
                self._world._to(row.cause, row.n + 1, ("planned",), state="sending")

        await self._world.transaction(work)


class Elsewhere:
    """Chats are where they are, and reachable."""

    def now(self, place: Any) -> Any:
        return place

    def why_unreachable(self, place: Any) -> None:
        return None

    async def lost(self, *_: Any) -> None:
        """Not of interest here."""


class Nobody:
    async def outgoing(self, *_: Any) -> None:
        return None


class Process:
    """One incarnation of a bot whose handling sends one message, in one of the two modes."""

    def __init__(self, world: World, mode: str, *, resend: bool, method: str = "sendMessage") -> None:
        self._world, self._mode, self._method = world, mode, method
        anything = cast("Any", world)
        self.health = Health()
        elsewhere = cast("Any", Elsewhere())
        gate = FloodGate(Flood(Rates(0, 0, 1, 0)), lambda: 0.0)
        states = SendStates(anything, anything, self.health)
        self._caller = Caller(gate, elsewhere, TokenRefusal(), resend=resend, clock=lambda: 0.0)
        recorder = cast("Any", Recorder(world))
        self._journal = SendJournal(states, recorder, self._caller, self.health)
        self._sender = Sender(anything, states, recorder, self._caller, elsewhere)
        self._recovery = Recovery(
            anything, anything, cast("Any", Nobody()), self._sender, Lanes(), self.health,
            deliver=self._sender.deliver, repeats=self._caller.repeats, now=lambda: 0.0,
        )  # fmt: skip

    async def run(self) -> None:
        """From the start to the end of the handling, or to the crash."""
        await self._recovery.find()
        await self._recovery.deliver(lambda: None)
        if self._world.done:
            return
        if self._mode == "inline":
            await self._inline()
        else:
            await self._deferred()

    async def outside(self) -> None:
        """A call that belongs to no handling."""
        await self._journal.call(Asked(self._method, {"chat_id": 1}, 1, 1), self._world.perform)

    async def _inline(self) -> None:
        scope = Scope(CAUSE, "t", inbox_id=1)
        scope.journal.begin(await self._world.of_cause(None, CAUSE))
        token = current.set(scope)
        try:
            await self._journal.call(Asked(self._method, {"chat_id": 1}, 1, 1), self._world.perform)
        except NotRepeatedError:
            pass
        finally:
            current.reset(token)
        self._world.done = True

    async def _deferred(self) -> None:
        row = begun(send_row(CAUSE, 0, "t", {"chat_id": 1, "text": "x"}, self._method))

        async def work(connection: Any) -> None:
            await self._world.plan(connection, [row])

        await self._world.transaction(work)
        self._world.done = True
        await self._sender.deliver([Outgoing(row, None)])


async def lives(world: World, mode: str, *, resend: bool, method: str = "sendMessage") -> None:
    """One life until the crash that is arranged, and another one without."""
    for _ in range(2):
        try:
            await Process(world, mode, resend=resend, method=method).run()
        except* Crash:
            if mode == "deferred" and world.rows:
                world.done = True  # planned rows and the inbox row are one commit
        world.commits_left = None


STEPS = {
    "before the plan": {"commits_left": 1},
    "after the plan": {"commits_left": 1, "end_after_commit": True},
    "during the call": {"faults": ["before"]},
    "after the answer": {"faults": ["after"]},
    "before the result": {"commits_left": 2},
    "after the result": {"commits_left": 2, "end_after_commit": True},
}
OUTCOMES = {
    # step: (arrived, state, uncertain) with resend, and with skip
    "before the plan": ((1, "sent", 0), (1, "sent", 0)),
    "after the plan": ((1, "sent", 1), (0, "skipped", 1)),
    "during the call": ((1, "sent", 1), (0, "skipped", 1)),
    "after the answer": ((2, "sent", 1), (1, "skipped", 1)),
    "before the result": ((2, "sent", 1), (1, "skipped", 1)),
    "after the result": ((1, "sent", 0), (1, "sent", 0)),
}
"""As in docs/delivery.md, "The send journal"."""


@pytest.mark.parametrize("mode", ["inline", "deferred"])
@pytest.mark.parametrize("resend", [True, False], ids=["resend", "skip"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_ends_at_each_step(step: str, resend: bool, mode: str) -> None:
    world = World()
    recovery = 1 if "commits_left" in STEPS[step] else 0  # the look at what an earlier process left is one as well
    for name, value in STEPS[step].items():
        setattr(world, name, copy.copy(value) if name != "commits_left" else cast("int", value) + recovery)
    await lives(world, mode, resend=resend)
    row = world.rows[CAUSE, 0]
    assert (world.arrived, row.state, row.uncertain) == OUTCOMES[step][0 if resend else 1]
    assert max(world.arrived - 1, 0) <= row.uncertain


@pytest.mark.parametrize("mode", ["inline", "deferred"])
@pytest.mark.parametrize("step", ["during the call", "after the answer"])
async def test_what_costs_stars_is_never_made_again(step: str, mode: str) -> None:
    world = World()
    world.faults = copy.copy(cast("Any", STEPS[step]["faults"]))
    await lives(world, mode, resend=True, method="sendGift")
    assert (world.calls, world.rows[CAUSE, 0].state, world.rows[CAUSE, 0].uncertain) == (1, "skipped", 1)


@pytest.mark.parametrize("mode", ["inline", "deferred"])
async def test_ending_again_before_the_repeated_call_is_not_counted_twice(mode: str) -> None:
    """The count of a hidden outcome is committed before the row is begun again."""
    world = World()
    world.faults = ["after"]
    with pytest.raises(BaseException):  # noqa: B017, PT011 – bare, or in a group
        await Process(world, mode, resend=True).run()
    world.done = mode == "deferred"
    looks = [2, 1, 1] if mode == "inline" else [1, 1, 1]  # an inline one is counted by its handler's call
    for commits in looks:
        world.commits_left, world.end_after_commit = commits, True
        with pytest.raises(BaseException):  # noqa: B017, PT011
            await Process(world, mode, resend=True).run()
    assert (world.rows[CAUSE, 0].state, world.rows[CAUSE, 0].uncertain) == ("planned", 1)
    world.commits_left = None
    await Process(world, mode, resend=True).run()
    assert (world.arrived, world.rows[CAUSE, 0].state, world.rows[CAUSE, 0].uncertain) == (2, "sent", 1)


@pytest.mark.parametrize("mode", ["inline", "deferred"])
async def test_each_call_whose_outcome_is_hidden_counts(mode: str) -> None:
    world = World()
    for _ in range(3):
        world.faults = ["after"]
        with pytest.raises(BaseException):  # noqa: B017, PT011
            await Process(world, mode, resend=True).run()
        world.done = mode == "deferred"
    await Process(world, mode, resend=True).run()
    assert (world.arrived, world.rows[CAUSE, 0].uncertain) == (4, 3)


@pytest.mark.parametrize("mode", ["inline", "deferred"])
@pytest.mark.parametrize(
    ("fault", "resend", "outcome"),
    [
        (OutcomeUnknownError("after"), True, (2, "sent", 1)),
        (OutcomeUnknownError("before"), True, (1, "sent", 1)),
        (OutcomeUnknownError("after"), False, (1, "skipped", 1)),
        (NotSentError("no route"), False, (1, "sent", 0)),
        (RetryAfter(0), False, (1, "sent", 0)),
        (BadRequest("chat not found"), True, (0, "failed", 0)),
        (Forbidden("bot was blocked by the user"), True, (0, "failed", 0)),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, TelegramError) else None,
)
async def test_errors_without_a_crash(
    fault: TelegramError, resend: bool, outcome: tuple[int, str, int], mode: str
) -> None:
    world = World()
    world.faults = [fault]
    told = mode == "inline" and outcome[1] == "failed"
    with pytest.raises(type(fault)) if told else nullcontext():
        await Process(world, mode, resend=resend).run()
    row = world.rows[CAUSE, 0]
    assert (world.arrived, row.state, row.uncertain) == outcome


async def test_a_call_that_would_wait_too_long_is_told_and_stays_planned() -> None:
    world = World()
    world.faults = [RetryAfter(100)]
    with pytest.raises(RetryAfter):
        await Process(world, "inline", resend=True).run()
    assert (world.rows[CAUSE, 0].state, world.rows[CAUSE, 0].uncertain) == ("planned", 0)
    await Process(world, "inline", resend=True).run()
    assert (world.arrived, world.rows[CAUSE, 0].state) == (1, "sent")


async def test_outside_of_a_handling_nothing_is_left_planned_and_each_call_has_its_own_cause() -> None:
    world = World()
    process = Process(world, "inline", resend=True)
    await process.outside()
    world.faults = [RetryAfter(100)]
    with pytest.raises(RetryAfter):
        await process.outside()
    with pytest.raises(RetryAfter):  # Telegram has said so; there is no other call
        await process.outside()
    states = [row.state for row in world.rows.values()]
    assert states == ["sent", "failed"]
    assert all(cause.startswith("op:") for cause, _ in world.rows)
    assert world.calls == 2
