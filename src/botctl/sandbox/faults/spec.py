"""What a fault is: the fields an operator or a scenario may give, checked. Pure.

Which calls it hits and when is decided by `box.py`; `engine.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator


class FaultError(ValueError):
    """A fault was described wrongly; the message says which field and why."""


class When(StrEnum):
    """Whether the call takes effect before the fault shows."""

    BEFORE = "before"
    """The call has no effect (after a mere delay or hold it goes on, though)."""
    AFTER = "after"
    """The call takes its full effect; only the answer is harmed."""


class Disorder(StrEnum):
    """What happens to a batch of updates."""

    TWICE = "twice"
    """Each update stands twice in it; a webhook gets it twice at the same time."""
    AGAIN = "again"
    """The next batch is the same one again, though it was confirmed; a webhook gets the update again later."""
    REVERSED = "reversed"
    """The newest first; a webhook gets what waits from the other end."""
    SHUFFLED = "shuffled"
    """In an order drawn by the fault's seed."""


class FaultSpec(BaseModel):
    """One rule as it was asked for. Seconds count from the moment it was taken up."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    method: str = "*"
    """Method name in any case, or `*` for every method; `webhook` is a delivery."""
    bot_id: int | None = None
    chat_id: int | None = None

    skip: int = Field(0, ge=0)
    """Let so many matching calls pass unharmed first."""
    every: int = Field(1, ge=1)
    """Of those that match, only each n-th."""
    chance: float = Field(1.0, gt=0, le=1)
    """Of those, only this share, drawn with `seed`."""
    seed: int | None = None
    start: float = Field(0.0, alias="from", ge=0)
    until: float | None = Field(None, gt=0)
    times: int | None = Field(1, ge=1)
    """How many calls are hit; None is for ever, and the default where `until`, `every` or `chance` is given."""

    when: Annotated[When, Field(strict=False)] = When.BEFORE
    delay: float = Field(0.0, ge=0)
    """Seconds to wait, before or after the effect; with `hold`, the longest time it is held."""
    hold: bool = False
    """Wait until released: `POST /sandbox/faults/<id>/release`, `release_on`, or `delay`."""
    release_on: str | None = None
    """A method, in any case, whose next call by the same bot releases what is held."""

    status: int | None = Field(None, ge=200, le=599)
    """Answer with this HTTP status instead of the true answer."""
    description: str | None = None
    retry_after: int | None = Field(None, ge=0)
    migrate_to_chat_id: int | None = None
    body: str | None = None
    """Answer with exactly this text (for answers that are no JSON)."""
    content_type: str | None = None
    """Of the answer, whatever is in it."""
    malformed: bool = False
    """Half of the true answer, sent as if it were all of it."""
    cut: bool = False
    """Close the connection without an answer."""
    cut_body: bool = False
    """Close the connection in the middle of the true answer."""
    hang: bool = False
    """Never answer; the connection stays open until the client gives up."""
    updates: Annotated[Disorder, Field(strict=False)] | None = None

    after_chunks: int | None = Field(None, ge=0)
    """Streams only: send so many pieces of text, then cut the connection."""
    truncated: bool = False
    """With `after_chunks`: end the stream properly there, though the rest is missing."""
    chunk_delay: float = Field(0.0, ge=0)
    """Seconds between the pieces of a stream."""
    empty: bool = False
    """The model answers with no text at all."""
    finish_reason: Literal["length", "content_filter"] | None = None
    """Why the model stopped; `length` leaves half of its text."""

    @model_validator(mode="before")
    @classmethod
    def _for_ever(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "times" not in given and {"until", "every", "chance"} & set(given):
            return {**given, "times": None}
        return given

    @field_validator("release_on")
    @classmethod
    def _lower(cls, name: str | None) -> str | None:
        return name.lower() if name is not None else None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.until is not None and self.until <= self.start:
            raise ValueError("'until' comes after 'from'")
        if self.truncated and self.after_chunks is None:
            raise ValueError("'truncated' needs 'after_chunks'")
        if self.release_on is not None and not self.hold:
            raise ValueError("'release_on' needs 'hold'")
        if not (self.replaces or self.harms or self.delay or self.hold):
            raise ValueError("the fault does nothing: give 'status', 'body', 'delay', 'cut', 'hold' or another harm")
        return self

    @property
    def code(self) -> int | None:
        """The status to answer with; `retry_after` and `migrate_to_chat_id` alone mean 429 and 400."""
        if self.status is None and self.retry_after is not None:
            return 429
        if self.status is None and self.migrate_to_chat_id is not None:
            return 400
        return self.status

    @property
    def replaces(self) -> bool:
        """Whether the true answer is replaced or withheld."""
        return self.code is not None or self.body is not None or self.cut or self.hang

    @property
    def harms(self) -> bool:
        """Whether the true answer is needed, and altered."""
        return bool(
            self.malformed
            or self.cut_body
            or self.updates is not None
            or self.after_chunks is not None
            or self.chunk_delay
            or self.empty
            or self.finish_reason
            or (self.content_type and self.body is None)
        )

    def hits(self, method: str, bot_id: int | None, chat_id: int | None) -> bool:
        """Whether the rule is about this call; `method` in lower case."""
        return (
            (self.method == "*" or self.method.lower() == method)
            and (self.bot_id is None or self.bot_id == bot_id)
            and (self.chat_id is None or self.chat_id == chat_id)
        )


def parse_fault(raw: object) -> FaultSpec:
    """A fault from the operator's JSON. Raises FaultError on unknown fields, wrong types and senseless values."""
    if not isinstance(raw, dict):
        raise FaultError("a fault is a JSON object")
    given = {key: value for key, value in raw.items() if value is not None or key == "times"}
    try:
        return FaultSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            known = (info.alias or name for name, info in FaultSpec.model_fields.items())
            raise FaultError(f"unknown field {field!r}; known: {', '.join(known)}") from error
        said = first["msg"].removeprefix("Value error, ")
        raise FaultError(f"field {field!r}: {said}, not {first['input']!r}" if field else said) from error
