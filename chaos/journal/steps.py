"""The steps of the send journal at which a bot is killed, and what must stand then and in the end. Pure.

It says what docs/reliability.md demands, and asks nothing of the code that is tried.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """How a send comes about."""

    INLINE = "inline"
    """A handler calls and waits for the answer."""
    DEFERRED = "deferred"
    """Parts of an assistant's answer, planned in one commit together with the end of the update."""


class Step(Enum):
    """How far the part in question has come when the process is killed."""

    UNPLANNED = "before the plan's commit"
    PLANNED = "planned, not begun"
    BEGUN = "begun, not at Telegram"
    LATE = "begun, at Telegram only after the restart"
    ANSWERING = "at Telegram, its answer held"
    ANSWERED = "answered, result not committed"
    RECORDED = "result committed, update not done"
    BETWEEN = "after one part, before the next"


class By(Enum):
    """Who stops the bot there."""

    TELEGRAM = "telegram"
    """The emulator holds the call, before or after its effect."""
    REFUSAL = "refusal"
    """The emulator asks to wait (429)."""
    DATABASE = "database"
    """A commit that waits for a lock."""
    NOBODY = "nobody"
    """There is nothing left to do."""


DONE = ("sent", 0)


@dataclass(frozen=True)
class Trial:
    """One chat's message of `parts` parts, stopped at part `n`. `chat` is no other trial's."""

    chat: int
    step: Step
    mode: Mode
    resend: bool
    parts: int
    n: int

    @property
    def by(self) -> By:
        """Who stops it."""
        inline = self.mode is Mode.INLINE
        if self.step is Step.PLANNED:
            return By.REFUSAL
        if self.step in (Step.UNPLANNED, Step.ANSWERED):
            return By.DATABASE
        if self.step is Step.RECORDED:
            return By.DATABASE if inline else By.NOBODY
        if self.step is Step.BETWEEN:
            return By.DATABASE if inline else By.TELEGRAM
        return By.TELEGRAM

    @property
    def takes_effect(self) -> bool:
        """Whether the call that the killed process had made shows, sooner or later."""
        return self.step in (Step.LATE, Step.ANSWERING, Step.ANSWERED)

    @property
    def uncertain(self) -> int:
        """How often nobody can know what came of a call."""
        begun = self.step in (Step.BEGUN, Step.LATE, Step.ANSWERING, Step.ANSWERED)
        return int(begun or (self.step is Step.BETWEEN and self.mode is Mode.DEFERRED))

    def rows_when_killed(self) -> list[str]:
        """States in the journal, by number."""
        if self.step is Step.RECORDED:
            return ["sent"] * self.parts
        if self.mode is Mode.DEFERRED and self.step is Step.UNPLANNED:
            return []
        rows = ["sent"] * self.n
        if self.step is Step.PLANNED:
            rows.append("planned")
        elif self.uncertain:
            rows.append("sending")
        return rows + ["planned"] * (self.parts - self.n - 1) * (self.mode is Mode.DEFERRED)

    def inbox_when_killed(self) -> str:
        """An answer of the assistant is planned in the commit with which its update is done."""
        return "done" if self.mode is Mode.DEFERRED and self.step is not Step.UNPLANNED else "new"

    def rows_in_the_end(self) -> list[tuple[str, int]]:
        """States and `uncertain`, by number."""
        if not self.uncertain:
            return [DONE] * self.parts
        if self.resend:
            return [DONE] * self.n + [("sent", 1)] + [DONE] * (self.parts - self.n - 1)
        # A handler whose call isn't repeated has ended there; an answer's other parts go out.
        rest = self.parts - self.n - 1 if self.mode is Mode.DEFERRED else 0
        return [DONE] * self.n + [("skipped", 1)] + [DONE] * rest

    def seen_in_the_end(self) -> list[int]:
        """How often the user has each part."""
        if not self.uncertain:
            return [1] * self.parts
        of_n = int(self.takes_effect) + int(self.resend)
        goes_on = self.resend or self.mode is Mode.DEFERRED
        return [1] * self.n + [of_n] + [int(goes_on)] * (self.parts - self.n - 1)

    def __str__(self) -> str:
        policy = "resend" if self.resend else "skip"
        return f"{self.mode.value}, {policy}: {self.step.value} (chat {self.chat}, part {self.n} of {self.parts})"


def draw(seed: int, kills: int, first_chat: int = 1000) -> list[Trial]:
    """So many trials of each step, mode and policy; the seed draws their parts and which of them is stopped."""
    dice = random.Random(seed)  # a plan, no secret
    cells = [(step, mode, resend) for step in Step for mode in Mode for resend in (True, False)]
    found: list[Trial] = []
    for step, mode, resend in cells * kills:
        parts = dice.choice((2, 3) if step is Step.BETWEEN else (1, 2, 3))
        n = {
            Step.UNPLANNED: 0,
            Step.BEGUN: 0,
            Step.RECORDED: parts - 1,
            Step.BETWEEN: dice.randrange(1, max(parts, 2)),
        }.get(step, dice.randrange(parts))
        found.append(Trial(first_chat + len(found), step, mode, resend, parts, n))
    return found


MOST = {By.DATABASE: 2, By.REFUSAL: 1, By.TELEGRAM: 3, By.NOBODY: 1}
"""Trials of a round. A stopped commit keeps one of the bot's two connections; a 429 of two chats at the same time means
the bot, so that all others would wait."""


def rounds(trials: list[Trial], seed: int) -> list[list[Trial]]:
    """Trials of one policy, shuffled, in groups that one kill can serve."""
    dice = random.Random(seed)
    waiting = {by: dice.sample(some, len(some)) for by in By if (some := [one for one in trials if one.by is by])}
    groups: list[list[Trial]] = []
    while any(waiting.values()):
        groups.append([one for by, left in waiting.items() for one in (left.pop() for _ in range(_some(by, left)))])
    return groups


def _some(by: By, left: list[Trial]) -> int:
    return min(MOST[by], len(left))
