"""One answer of the model, made from a request: text, token counts, what cut it short. Pure."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace

from botctl.sandbox.completion.model import answer
from botctl.sandbox.completion.requests import Asked
from botctl.sandbox.completion.usage import count_request, count_tokens, cut_tokens
from botctl.sandbox.faults.spec import FaultSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said to a request."""

    asked: Asked
    text: str
    stopped_by: str | None
    """`length` or `content_filter`; None for an answer that came to its end."""
    input_tokens: int
    output_tokens: int
    number: str = field(default_factory=lambda: secrets.token_hex(16))
    created: int = field(default_factory=lambda: int(time.time()))


def make_answer(asked: Asked) -> Answer:
    """Run the model."""
    text, cut_short = answer(asked.instructions, asked.turns), False
    if asked.most_tokens is not None:
        text, cut_short = cut_tokens(text, asked.most_tokens)
    read = [turn.text for turn in asked.turns]
    if asked.instructions:
        read.append(asked.instructions)
    return Answer(asked, text, "length" if cut_short else None, count_request(read), count_tokens(text))


def spoil_answer(answer: Answer, spec: FaultSpec) -> Answer:
    """What the model says when a fault keeps it from saying all."""
    if spec.empty:
        return replace(answer, text="", output_tokens=0)
    if spec.finish_reason is not None:
        return replace(answer, text=answer.text[: len(answer.text) // 2], stopped_by=spec.finish_reason)
    return answer
