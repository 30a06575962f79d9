"""How threat detection is tuned: for all rules, for one, for one bot. Pure; read from the fleet file.

Hard rules are enforced and soft ones in shadow unless told otherwise: in shadow a verdict is told and published, and
nothing is done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from botctl.security.threat.rules import RULES, Rule

_NAMES = frozenset(rule.name for rule in RULES)


class Mode(StrEnum):
    """What becomes of a verdict."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class RuleTuning(BaseModel):
    """One rule's; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode | None = None
    weight: Annotated[float, Field(ge=0, le=100)] | None = None


class Tuning(BaseModel):
    """`hard` and `soft` are modes of those kinds of rules; `rules` go by name; scores in points, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hard: Mode = Mode.ENFORCE
    soft: Mode = Mode.SHADOW
    rules: dict[str, RuleTuning] = {}
    watch_at: Annotated[float, Field(gt=0)] = 4.0
    block_at: Annotated[float, Field(gt=0)] = 10.0
    half_life: Annotated[float, Field(gt=0)] = 600.0
    block_for: Annotated[float, Field(gt=0)] = 900.0

    @field_validator("rules")
    @classmethod
    def _known(cls, value: dict[str, RuleTuning]) -> dict[str, RuleTuning]:
        if unknown := sorted(value.keys() - _NAMES):
            raise ValueError(f"no such rule: {', '.join(unknown)}; there are {', '.join(sorted(_NAMES))}")
        return value

    def mode(self, rule: Rule) -> Mode:
        """Of this rule."""
        told = self.rules.get(rule.name)
        if told is not None and told.mode is not None:
            return told.mode
        return self.hard if rule.hard else self.soft

    def weight(self, rule: Rule) -> float:
        """Of one occurrence."""
        told = self.rules.get(rule.name)
        return rule.weight if told is None or told.weight is None else told.weight
