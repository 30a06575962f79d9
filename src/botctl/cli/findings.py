"""What a check of `doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check ended. Only FAIL makes `doctor` fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    verdict: Verdict
    subject: str
    text: str
    hint: str | None = None
