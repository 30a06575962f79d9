"""Holds back a call to Telegram that carries a token or key: from handlers, from the assistant, numbered or not.

It stands where a call leaves the process, so that nothing that goes through the bot's own client can pass beside it. A
call held back is refused as Telegram would refuse it: its send is recorded as failed, with the reason, and is not
tried again. Never repeats what it has found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from telegram.error import Forbidden

from botctl.bot.vitals.health import Health
from botctl.observability.redaction import MASK
from botctl.security.threat.leaks import CANARY, LeakFinder

_log = structlog.get_logger("botctl.bot.leaks")

_LARGEST_FILE = 256 * 1024
"""Bytes; larger ones are pictures and the like, and looking through them would hold up the loop."""


class LeakGuard:
    """`secrets` are the bot's own, by what they are called."""

    def __init__(self, secrets: Mapping[str, str], health: Health, canary: str = "") -> None:
        self._finder = LeakFinder(secrets, canary)
        self._health = health

    def take(self, canary: Any) -> None:
        """From now on this is the digest of the canaries' word."""
        if isinstance(canary, str):
            self._finder.canary = canary

    def check(self, method: str, parameters: Mapping[str, Any], files: Mapping[str, Any] | None = None) -> None:
        """Raises Forbidden for a call that must not be made."""
        found = self._finder.find(_texts(parameters, files))
        if found is None:
            return
        self._health.count("canaries_held_back" if found == CANARY else "sends_held_back")
        _log.error("a call was held back: it carries a secret", method=method, secret=found)
        raise Forbidden(f"held back by botctl, and not sent: it carries {found}")

    def without_secrets(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """These parameters as they may be recorded: of a call that will be held back, without the text that is why."""
        return {
            key: MASK if self._finder.find(_texts({key: value}, None)) else value for key, value in parameters.items()
        }


def _texts(parameters: Mapping[str, Any], files: Mapping[str, Any] | None) -> Iterable[str]:
    for value in parameters.values():
        if isinstance(value, str):
            yield value
    for name, content, _ in (files or {}).values():
        yield str(name)
        if isinstance(content, bytes) and len(content) <= _LARGEST_FILE:
            yield content.decode("latin-1")
