"""One bot and its rounds: bring chats to their steps, kill -9, start again, and look what came of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg

from botctl.runtime import messages
from chaos.journal.compare import Found, Row, differs_in_the_end, differs_when_killed
from chaos.journal.steps import By, Mode, Step, Trial
from chaos.journal.stops import Stops
from chaos.journal.tally import Tally
from chaos.waiting import LateError, until
from support.bot_process import BotUnderTest

PATIENCE = 30.0
WORDS = (100, 900, 1800)
"""Words of an answer that makes one, two, three parts."""

_ROWS = """
SELECT chat_id, mode, state, uncertain, payload->>'text', result IS NOT NULL
FROM sends WHERE bot_id = $1 AND chat_id = ANY($2::bigint[]) ORDER BY chat_id, n
"""
_INBOX = (
    "SELECT substring(lane FROM 6)::bigint AS chat_id, state FROM inbox WHERE bot_id = $1 AND lane = ANY($2::text[])"
)
_COMPLETIONS = "SELECT count(*) FROM completions WHERE bot_id = $1"


class Rounds:
    """The rounds of one bot. `connection` is the superuser's, and nobody else uses it."""

    def __init__(
        self, bot: BotUnderTest, stops: Stops, connection: asyncpg.Connection, *, resend: bool, seed: int
    ) -> None:
        self.tally = Tally()
        self._bot = bot
        self._stops = stops
        self._connection = connection
        self._resend = resend
        self._dice = random.Random(seed)
        self._seen: dict[int, Counter[str]] = {}
        self._last_event = 0
        self._all: list[Trial] = []

    async def run(self, rounds: Sequence[Sequence[Trial]], told: Callable[[], None] = lambda: None) -> Tally:
        """All of them; then once more everything is counted that users have."""
        self._bot.start(
            handlers="journal_bot:register",
            assistant={"instructions": "You are Echo.", "history": 2},
            on_uncertain="resend" if self._resend else "skip",
            restart={"heartbeat_timeout": "1s"},
        )
        try:
            await self._bot.ready()
            for trials in rounds:
                await self._round(trials)
                told()
            await self._once_more()
        except (LateError, AssertionError) as error:
            self.tally.stories.append(f"bot {self._bot.bot_id} got no further: {error}")
        return self.tally

    async def _round(self, trials: Sequence[Trial]) -> None:
        story: list[str] = []
        faults = await self._bring(trials)
        story += [f"when killed, {wrong}" for wrong in differs_when_killed(trials, await self._found(trials))]
        await asyncio.sleep(self._dice.uniform(0.0, 0.02))
        self._bot.kill()
        self.tally.kills += 1
        for trial, fault in faults.items():
            if trial.step is not Step.LATE:
                await self._bot.telegram.release(fault, drop=True)
        await self._stops.disarm(trial.chat for trial in trials)
        self._bot.start(previous_failure="signal")
        await self._bot.ready()
        commits = {trial.chat for trial in trials if trial.by is By.DATABASE}
        try:
            # The first act of an incarnation is to end what the one before has left in the database.
            await until(lambda: self._are_ended(commits), "its old transactions are ended", PATIENCE, 0.02)
            await self._stops.let_go(commits)
            await until(lambda: self._is_settled(trials), "all is worked off", PATIENCE, 0.02)
            for trial, fault in faults.items():
                if trial.step is Step.LATE:
                    await self._bot.telegram.release(fault)
            await until(lambda: self._all_seen(trials), "users have what they must have", PATIENCE, 0.02)
            await self._metric(sum(trial.uncertain for trial in trials))
        except LateError as error:
            story.append(str(error))
        found = await self._found(trials)
        story += [f"in the end, {wrong}" for wrong in differs_in_the_end(trials, found, self._seen)]
        self._count(trials, found)
        if story:
            self._tell(trials, story)

    # --- bringing chats to their steps -----------------------------------------------------------------------------

    async def _bring(self, trials: Sequence[Trial]) -> dict[Trial, int]:
        """Have all of them stand at their steps; the emulator's faults by trial."""
        telegram, bot_id = self._bot.telegram, self._bot.bot_id
        first = [trial for trial in trials if trial.by is not By.DATABASE]
        faults: dict[Trial, int] = {}
        for trial in first:
            if trial.by is By.TELEGRAM:
                when = "after" if trial.step is Step.ANSWERING else "before"
                hold: dict[str, Any] = {"hold": True, "when": when}
            elif trial.by is By.REFUSAL:
                hold = {"retry_after": 30}
            else:
                continue
            fault = await telegram.inject_fault(
                "sendMessage", bot_id=bot_id, chat_id=trial.chat, skip=trial.n, times=1, **hold
            )
            if trial.by is By.TELEGRAM:
                faults[trial] = fault
        if first:
            await telegram.say_many(bot_id, [(trial.chat, _question(trial)) for trial in first])
        for trial, fault in faults.items():
            if not await telegram.held(fault, 1, PATIENCE):
                raise LateError(f"{trial}: its call does not come\n{self._bot.output()[-4000:]}")
        others = [trial for trial in first if trial not in faults]
        if others:
            await self._until(lambda: self._stand(others), "their rows are as they must be")
        await self._bring_commits([trial for trial in trials if trial.by is By.DATABASE])
        return faults

    async def _bring_commits(self, trials: list[Trial]) -> None:
        """Last, for each takes one of the bot's two connections; one by one, for work that waits commits together."""
        for trial in trials:
            point = {Step.ANSWERED: "sent", Step.RECORDED: "done"}.get(trial.step, "plan")
            await self._stops.arm(trial.chat, point, trial.n)
            await self._bot.telegram.say(self._bot.bot_id, trial.chat, _question(trial))
            await self._until(partial(self._is_stopped, trial.chat), f"{trial}: its commit is stopped")

    async def _is_stopped(self, chat: int) -> bool:
        return chat in await self._stops.stopped()

    async def _are_ended(self, chats: set[int]) -> bool:
        return not chats & await self._stops.stopped()

    async def _stand(self, trials: Sequence[Trial]) -> bool:
        return not differs_when_killed(trials, await self._found(trials))

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            await until(condition, what, PATIENCE, 0.02)
        except LateError as error:
            raise LateError(f"{error}\n{self._bot.output()[-4000:]}") from None

    # --- what stands and what is seen ------------------------------------------------------------------------------

    async def _found(self, trials: Sequence[Trial]) -> Found:
        chats = [trial.chat for trial in trials]
        lanes = [f"chat:{chat}" for chat in chats]
        # Updates first: with one that is done, its planned sends have been committed.
        inbox = {row["chat_id"]: row["state"] for row in await self._connection.fetch(_INBOX, self._bot.bot_id, lanes)}
        sends: dict[int, list[Row]] = {chat: [] for chat in chats}
        for chat, *values in await self._connection.fetch(_ROWS, self._bot.bot_id, chats):
            sends[chat].append(Row(*values))
        return Found(sends, inbox)

    async def _look(self) -> None:
        """Take what users have got since the last look."""
        for event in await self._bot.telegram.events(self._bot.bot_id, self._last_event):
            self._last_event = event.seq
            if event.type == "send" and event.chat_id is not None:
                self._seen.setdefault(event.chat_id, Counter())[event.text.strip()] += 1

    async def _is_settled(self, trials: Sequence[Trial]) -> bool:
        found = await self._found(trials)
        ended = all(row.state in ("sent", "skipped", "failed") for rows in found.sends.values() for row in rows)
        return ended and all(found.inbox.get(trial.chat) in ("done", "dead") for trial in trials)

    async def _all_seen(self, trials: Sequence[Trial]) -> bool:
        await self._look()
        return all(
            sum(self._seen.get(trial.chat, Counter()).values()) >= sum(trial.seen_in_the_end()) for trial in trials
        )

    async def _metric(self, expected: int) -> None:
        """The bot's own count, which begins at 0 with each incarnation, says the same."""

        async def told() -> bool:
            beats = [one for one in self._bot.receive() if isinstance(one, messages.Heartbeat)]
            counted = int(beats[-1].counters.get("sends_uncertain", 0)) if beats else -1
            if counted >= expected:
                self.tally.metric += counted
            return counted >= expected

        await until(told, f"its counter sends_uncertain is {expected}", PATIENCE, 0.02)

    # --- the end of a round ----------------------------------------------------------------------------------------

    async def _once_more(self) -> None:
        """What came after its round was looked at would be seen now; no model was asked twice."""
        before = {chat: Counter(seen) for chat, seen in self._seen.items()}
        await self._look()
        for chat, seen in self._seen.items():
            if seen != before.get(chat):
                self.tally.stories.append(f"chat {chat} got something after its round was over: {seen}")
        asked = sum(trial.mode is Mode.DEFERRED for trial in self._all)
        recorded = await self._connection.fetchval(_COMPLETIONS, self._bot.bot_id)
        if recorded != asked:
            self.tally.stories.append(f"bot {self._bot.bot_id} has {recorded} completions of {asked} messages")

    def _count(self, trials: Sequence[Trial], found: Found) -> None:
        self._all += trials
        for trial in trials:
            self.tally.uncertain += sum(row.uncertain for row in found.sends[trial.chat])
            self.tally.trials[trial.step, trial.mode, trial.resend] += 1
            self.tally.twice += sum(count - 1 for count in self._seen.get(trial.chat, Counter()).values())
            self.tally.unseen += trial.seen_in_the_end().count(0)

    def _tell(self, trials: Sequence[Trial], story: list[str]) -> None:
        lines = [f"bot {self._bot.bot_id}, kill {self.tally.kills}:", *story, "in the same round:"]
        lines += [str(trial) for trial in trials]
        chats = {trial.chat for trial in trials}
        log = [line for line in self._bot.output().splitlines() if any(f"{chat}" in line for chat in chats)]
        self.tally.stories.append("\n  ".join([*lines, "its log:", *(line[:300] for line in log[-20:])]))


def _question(trial: Trial) -> str:
    if trial.mode is Mode.INLINE:
        return f"say {trial.parts} m{trial.chat}x"
    return f"write {WORDS[trial.parts - 1]} words about m{trial.chat}x"
