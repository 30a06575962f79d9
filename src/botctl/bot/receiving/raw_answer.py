"""An answer of the Bot API as it came, for whoever asks without python-telegram-bot. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawAnswer:
    """HTTP status and body."""

    status: int
    body: bytes

    @property
    def result(self) -> Any:
        """What was asked for. Raises ValueError when the answer is none of the Bot API's."""
        try:
            return json.loads(self.body)["result"]
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no answer of the Bot API: {type(error).__name__}") from error

    @property
    def description(self) -> str:
        """What Telegram says is wrong."""
        try:
            return str(json.loads(self.body)["description"])[:200]
        except (ValueError, KeyError, TypeError):
            return f"HTTP {self.status}"

    @property
    def is_telegrams(self) -> bool:
        """Whether the Bot API itself answers, and not something on the way to it."""
        try:
            return json.loads(self.body)["ok"] is False
        except (ValueError, KeyError, TypeError):
            return False

    @property
    def refuses_the_token(self) -> bool:
        """Whether no restart helps."""
        return self.status in (401, 404) and self.is_telegrams

    @property
    def retry_after(self) -> float:
        """Seconds to wait."""
        try:
            return min(max(float(json.loads(self.body)["parameters"]["retry_after"]), 0.0), 3600.0)
        except (ValueError, KeyError, TypeError):
            return 1.0
