"""How threat detection is tuned for a bot: the key `threats` of the fleet file, for all in `defaults`. Pure.

Hard rules are enforced and soft ones in shadow unless told otherwise: in shadow a verdict is told and published, and
nothing is done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from botctl.fleet.units import Duration

KNOWN = frozenset(
    {
        "bad_events",
        "canary",
        "canary_readable",
        "connection_hog",
        "cross_bot_redis",
        "cross_bot_sql",
        "denied_redis",
        "denied_sql",
        "failed_logins",
        "foreign_login",
        "login_mended",
        "message_rate",
        "secret_in_message",
        "spend_rate",
        "stolen_login",
        "user_flood",
    }
)
"""The rules are in `security.threat.rules`; a test compares."""


class Mode(StrEnum):
    """What becomes of a verdict."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


def _off(value: Any) -> Any:
    """To YAML a plain `off` is the boolean."""
    return Mode.OFF if value is False else value


_Mode = Annotated[Mode, BeforeValidator(_off)]


class RuleTuning(BaseModel):
    """One rule's; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: _Mode | None = None
    weight: Annotated[float, Field(ge=0, le=100)] | None = None


class Tuning(BaseModel):
    """`hard` and `soft` are modes of those kinds of rules; `rules` go by name; scores in points, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hard: _Mode = Mode.ENFORCE
    soft: _Mode = Mode.SHADOW
    rules: dict[str, RuleTuning] = {}
    watch_at: Annotated[float, Field(gt=0)] = 4.0
    block_at: Annotated[float, Field(gt=0)] = 10.0
    half_life: Duration = Field(default=600.0, gt=0, description="After which a score has halved.")
    block_for: Duration = Field(default=900.0, gt=0, description="How long a block lasts.")

    @field_validator("rules")
    @classmethod
    def _known(cls, value: dict[str, RuleTuning]) -> dict[str, RuleTuning]:
        if unknown := sorted(value.keys() - KNOWN):
            raise ValueError(f"no such rule: {', '.join(unknown)}; there are {', '.join(sorted(KNOWN))}")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.watch_at > self.block_at:
            raise ValueError(f"watch_at ({self.watch_at:g}) is above block_at ({self.block_at:g})")
        return self

    def mode(self, rule: str, *, hard: bool) -> Mode:
        """Of this rule."""
        told = self.rules.get(rule)
        if told is not None and told.mode is not None:
            return told.mode
        return self.hard if hard else self.soft

    def weight(self, rule: str, default: float) -> float:
        """Of one occurrence."""
        told = self.rules.get(rule)
        return default if told is None or told.weight is None else told.weight
