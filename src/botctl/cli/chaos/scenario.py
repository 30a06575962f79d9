"""A scenario: who writes what to which bots, and what goes wrong when. Pure; `scenario_file` reads it from YAML."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from botctl.fleet.units import Duration
from botctl.sandbox.faults.spec import FaultSpec

SERVICES = ("control", "supervisor", "postgres", "valkey", "forkserver")
"""What may be killed besides bots."""
DEEDS = ("telegram", "completion", "limits", "kill", "stop", "restart", "flood")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Contains(_Model):
    """An answer that must have this in it; `{mark}` stands for the message's mark."""

    contains: Annotated[str, Field(min_length=1)]


Expectation = Literal["reply", "none", "maybe"] | Contains
"""Whether a message is answered: `maybe` is neither lost without an answer nor odd with one."""


class Sends(StrEnum):
    """What a user sends."""

    TEXT = "text"
    PHOTO = "photo"
    VOICE = "voice"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    ALBUM = "album"
    PRESS = "press"
    """A button of the newest message that has some; without such a message, nothing."""


class Say(_Model):
    """One thing users do. `{mark}` and `{n}` in the text stand for the message's mark and number."""

    text: str = ""
    sends: Sends = Sends.TEXT
    weight: Annotated[float, Field(gt=0)] = 1.0
    expects: Expectation = "reply"
    replies: Annotated[int, Field(ge=1)] = 1
    """How many messages one answer is."""
    bots: tuple[str, ...] = ()
    """Names of those it is said to; all when empty."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.sends is Sends.TEXT and not self.text.strip():
            raise ValueError("a text is missing")
        return self


class Users(_Model):
    """Who writes: so many private chats with each bot, so many messages a second to each bot in all of them."""

    bots: tuple[str, ...] = ()
    """Names; all enabled bots when empty."""
    chats: Annotated[int, Field(ge=1, le=10_000)] = 5
    rate: Annotated[float, Field(gt=0, le=1000)] = 2.0
    says: Annotated[tuple[Say, ...], Field(min_length=1)] = (Say(text="please repeat {mark}"),)


class Flood(_Model):
    """One user who writes so many messages at once, into a chat of their own."""

    messages: Annotated[int, Field(ge=1, le=100_000)] = 100
    bot: str = ""
    """Name; the first one when empty."""
    text: str = "flood {mark}"
    expects: Expectation = "maybe"
    """Threat detection may set a flood aside."""


class Step(_Model):
    """One thing that goes wrong, or a change of what Telegram allows."""

    at: Annotated[Duration, Field(ge=0)]
    lasts: Annotated[Duration, Field(gt=0)] | None = Field(default=None, alias="for")
    every: Annotated[Duration, Field(gt=0)] | None = None
    """Do it again and again, this far apart on average, as long as it lasts. For kill, stop, restart and flood."""
    name: str = ""
    bot: str = ""
    """For telegram: only calls of this bot."""
    telegram: FaultSpec | None = None
    completion: FaultSpec | None = None
    limits: dict[str, float | str] | None = None
    kill: str | None = None
    stop: str | None = None
    restart: str | None = None
    flood: Flood | None = None

    @field_validator("limits")
    @classmethod
    def _some_limits(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and not value:
            raise ValueError("no limit is given")
        return value

    @model_validator(mode="after")
    def _one_deed(self) -> Self:
        done = [deed for deed in DEEDS if getattr(self, deed) is not None]
        if len(done) != 1:
            raise ValueError(f"give exactly one of {', '.join(DEEDS)}")
        if self.every is not None and (self.lasts is None or self.is_fault or self.limits is not None):
            raise ValueError("'every' needs 'for', and one of kill, stop, restart, flood")
        if self.stop is not None and self.lasts is None:
            raise ValueError("'stop' needs 'for': what is stopped goes on after that")
        if self.stop is not None and self.every is not None:
            raise ValueError("'stop' can't have 'every'")
        if self.bot and self.telegram is None:
            raise ValueError("'bot' is for telegram")
        if self.restart in SERVICES:
            raise ValueError("only bots are restarted by command; kill is for the others")
        return self

    @property
    def deed(self) -> str:
        """Which of `DEEDS` it is."""
        return next(deed for deed in DEEDS if getattr(self, deed) is not None)

    @property
    def is_fault(self) -> bool:
        """Whether one of the emulators carries it out."""
        return self.telegram is not None or self.completion is not None

    @property
    def label(self) -> str:
        """How the report calls it."""
        if self.name:
            return self.name
        value = getattr(self, self.deed)
        if isinstance(value, FaultSpec):
            shown = value.model_dump(
                exclude_unset=True, by_alias=True, mode="json", exclude={"method", "seed", "times"}
            )
            fields = ", ".join(key if item is True else f"{key} {item}" for key, item in shown.items())
            return f"{self.deed if value.method == '*' else value.method}: {fields}"
        if isinstance(value, Flood):
            return f"flood of {value.messages}"
        return f"{self.deed} {value}" if isinstance(value, str) else self.deed

    @property
    def ends(self) -> float:
        """Seconds from the start of the timeline."""
        return self.at + (self.lasts or 0.0)


class Scenario(_Model):
    """All of it. Seconds of the timeline count from the end of `calm`."""

    about: str = ""
    seed: int = 1
    calm: Annotated[Duration, Field(ge=0)] = 3.0
    """Before the first fault: what latencies are compared with."""
    duration: Annotated[Duration, Field(gt=0)] = 30.0
    """For which users write, after the calm."""
    quiet: Annotated[Duration, Field(gt=0)] = 60.0
    """How long answers may take after the last message."""
    users: Users = Users()
    limits: dict[str, float | str] = {}
    """Of the emulated Telegram from the beginning, as PUT /sandbox/limits takes them."""
    timeline: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _within_its_time(self) -> Self:
        for place, step in enumerate(self.timeline):
            if step.ends > self.duration:
                raise ValueError(f"timeline[{place}] ends at {step.ends:g} s, the scenario at {self.duration:g} s")
        return self

    @property
    def keeps_order(self) -> bool:
        """Whether answers can be demanded in order: not when updates come in disorder."""
        faults = [step.telegram for step in self.timeline if step.telegram is not None]
        return not any(fault.updates is not None for fault in faults)
