"""The order in which a scenario's steps are to be done, with the moments of those that repeat. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from botctl.cli.chaos.scenario import Scenario, Step


@dataclass(frozen=True, slots=True)
class Moment:
    """Do (or, with `ends`, take back) a step. `at`: seconds from the start of the timeline. `place`: in the file."""

    at: float
    place: int
    step: Step
    ends: bool = False


def moments(scenario: Scenario) -> list[Moment]:
    """All of them in order, drawn by the scenario's seed."""
    dice = random.Random(scenario.seed)  # a plan, no secret
    found: list[Moment] = []
    for place, step in enumerate(scenario.timeline):
        if step.every is not None:
            at = step.at
            while at < step.ends:
                found.append(Moment(at, place, step))
                at += step.every * dice.uniform(0.5, 1.5)
            continue
        found.append(Moment(step.at, place, step))
        if step.lasts is not None:
            found.append(Moment(step.ends, place, step, ends=True))
    return sorted(found, key=lambda moment: (moment.at, moment.ends, moment.place))
