"""What is counted in the rounds of one bot, or of all. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chaos.journal.steps import Mode, Step


@dataclass
class Tally:
    """What came of the rounds of one bot, or of all."""

    kills: int = 0
    trials: Counter[tuple[Step, Mode, bool]] = field(default_factory=Counter)
    twice: int = 0
    """Parts that users have twice."""
    uncertain: int = 0
    """Counted in the journal."""
    metric: int = 0
    """Counted by the bots themselves (`botctl_sends_uncertain_total`)."""
    unseen: int = 0
    """Parts that nobody has, by `on_uncertain: skip`."""
    stories: list[str] = field(default_factory=list)
    """What was not as it must be."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.kills + other.kills,
            self.trials + other.trials,
            self.twice + other.twice,
            self.uncertain + other.uncertain,
            self.metric + other.metric,
            self.unseen + other.unseen,
            self.stories + other.stories,
        )
