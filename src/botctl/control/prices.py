"""What completions cost, by the prices the operator has set. Pure. Never guesses: an unknown price is no cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PER = 1_000_000
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model, for a million tokens. Without `cached`, cached input tokens cost what others do."""

    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True)
class Prices:
    """By model; `currency` is a word behind the sum, such as USD."""

    models: Mapping[str, Price]
    currency: str = "USD"

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Prices:
        """From what the daemon hands to `control`."""
        given: Mapping[str, Mapping[str, Any]] = options.get("prices") or {}
        models = {
            model: Price(float(one["input"]), float(one["output"]), _maybe(one.get("cached")))
            for model, one in given.items()
        }
        return cls(models, str(options.get("currency") or "USD"))

    def find(self, model: str) -> Price | None:
        """The price of a model as it is called, or without the date at the end: gpt-x-2026-01-31 is gpt-x."""
        return self.models.get(model) or self.models.get(_DATED.sub("", model))

    def cost(
        self, model: str, input_tokens: float | None, output_tokens: float | None, cached_tokens: float | None = None
    ) -> float | None:
        """What these tokens cost; None where price or count is unknown. Cached tokens are among the input tokens."""
        price = self.find(model)
        if price is None or input_tokens is None or output_tokens is None:
            return None
        cached = min(cached_tokens or 0, input_tokens)
        dear = price.input if price.cached is None else price.cached
        return ((input_tokens - cached) * price.input + cached * dear + output_tokens * price.output) / _PER


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
