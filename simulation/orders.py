"""What children send up their pipes that is for the supervisor to translate, most of it from `control`. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from botctl.supervision.model import Policy
from botctl.supervision.reconcile import Wanted


@dataclass(frozen=True)
class Command:
    """An operator's wish for one bot, or with key None for all."""

    verb: str
    key: int | None
    reason: str = ""


@dataclass(frozen=True)
class Fleet:
    """The whole wanted fleet, with each bot's policy. `live` are bots that get new settings while they run."""

    bots: dict[int, tuple[Wanted, Policy]]
    live: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Heard:
    """Telegram holds updates for a bot that takes none, or no longer does."""

    key: int
    deaf: bool
    reason: str


@dataclass(frozen=True)
class NewLimits:
    """Limits of a bot that can't be changed while it runs."""

    key: int


@dataclass(frozen=True)
class SetUp:
    """Set-up has ended well."""


@dataclass(frozen=True)
class GaveUp:
    """From a bot: updates that ended it are given up, and its failures with them."""


Order = Command | Fleet | Heard | NewLimits | SetUp | GaveUp
