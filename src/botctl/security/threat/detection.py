"""Decides: observations of one tick become verdicts. Pure: time is an argument, and somebody else performs.

A score is the sum of what each rule has added, halved every half-life. One rule adds no more than its cap, so that a
single noisy rule brings a bot to `watch`, and only several, or a heavy one again and again, to `block`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from botctl.fleet.threats import Mode, Tuning
from botctl.security.threat.baseline import Baseline
from botctl.security.threat.observations import Flow, Observation, UserVolume, Volume
from botctl.security.threat.rules import RULES, Rule, Sight, Signal, judge

REPEAT_AFTER = 600.0
"""Seconds after which a verdict that still holds, and has a new signal, is told again."""

FLEET = 0
"""In the place of a bot's id: what is nobody's doing, or not known whose. It is told, and nothing is done."""

MOST_BOTS = 10_000
"""And users of theirs, of whom something was seen."""

_FORGET_BELOW = 0.01
_LONGEST_SAMPLE = 3600.0


_Who = tuple[int, int]
"""A bot, and one of its users or 0."""


class Level(IntEnum):
    """What is to be done, from nothing to everything."""

    NONE = 0
    WATCH = 1
    BLOCK = 2
    QUARANTINE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one bot. `performed`: do it; else it is told only. `seconds` of a block, 0 for one until released.

    `would`: the level with the rules in shadow counted too; it is above `level` when shadow makes the difference.
    """

    bot_id: int
    at: float
    level: Level
    would: Level
    score: float
    seconds: float
    signals: tuple[Signal, ...]
    user_id: int = 0
    """Of a verdict on one of the bot's users; 0 for one on the bot itself."""

    @property
    def explanation(self) -> str:
        """One sentence for people."""
        return "; ".join(f"{signal.rule}: {signal.explanation}" for signal in self.signals)


@dataclass(slots=True)
class _Book:
    """Of one bot: points by rule at `at`, and what was told last."""

    at: float
    points: dict[str, float] = field(default_factory=dict)
    baselines: dict[Flow, Baseline] = field(default_factory=dict)
    told: tuple[Level, Level] = (Level.NONE, Level.NONE)
    told_at: float = -math.inf

    def decay(self, now: float, half_life: float) -> None:
        if now > self.at:
            factor = 0.5 ** ((now - self.at) / half_life)
            self.points = {rule: left for rule, old in self.points.items() if (left := old * factor) >= _FORGET_BELOW}
            self.at = now


class Detector:
    """`tuning` is everybody's, `overrides` are single bots'. Holds what it has learned; performs nothing."""

    def __init__(self, tuning: Tuning | None = None, overrides: Mapping[int, Tuning] | None = None) -> None:
        self.tuning = tuning or Tuning()
        self.overrides: Mapping[int, Tuning] = overrides or {}
        self._books: dict[_Who, _Book] = {}

    def __len__(self) -> int:
        return len(self._books)

    def score(self, bot_id: int, now: float) -> float:
        """Of a bot, shadow included."""
        book = self._books.get((bot_id, 0))
        if book is None:
            return 0.0
        book.decay(now, self._tuning(bot_id).half_life)
        return math.fsum(book.points.values())

    def forget(self, bot_ids: Iterable[int]) -> None:
        """These bots are gone, or released: they begin anew."""
        for bot_id in bot_ids:
            self._books.pop((bot_id, 0), None)

    def tick(self, observations: Iterable[Observation], now: float) -> list[Verdict]:
        """Judge what was seen since the last tick, in whatever order."""
        by_whom: dict[_Who, list[Observation]] = {}
        for seen in observations:
            by_whom.setdefault(_who(seen), []).append(seen)
        found = [self._judge(who, seen, now) for who, seen in sorted(by_whom.items())]
        self._keep_bounded()
        return [verdict for verdict in found if verdict is not None]

    def _judge(self, who: _Who, seen: list[Observation], now: float) -> Verdict | None:
        bot_id, user_id = who
        tuning = self._tuning(bot_id)
        book = self._books.setdefault(who, _Book(now))
        book.decay(now, tuning.half_life)
        signals: list[tuple[Rule, Mode, Signal]] = []
        for observation in seen:
            sight = Sight(observation, _limit(book, observation))
            for rule in RULES:
                mode = tuning.mode(rule.name, hard=rule.hard)
                signal = None if mode is Mode.OFF else judge(rule, sight, tuning.weight(rule.name, rule.weight))
                if signal is not None:
                    signals.append((rule, mode, signal))
        for observation in sorted(seen, key=lambda one: one.at):
            _learn(book, observation)
        if not signals:
            return None
        _add(book, signals)
        level = self._level(tuning, book, signals, {Mode.ENFORCE})
        would = self._level(tuning, book, signals, {Mode.ENFORCE, Mode.SHADOW})
        if bot_id == FLEET:
            level = min(level, Level.WATCH)
        if would is Level.NONE or not _worth_telling(book, level, would, now):
            return None
        book.told, book.told_at = (level, would), now
        told = sorted(
            (signal for _, _, signal in signals), key=lambda one: (not one.hard, -one.weight, one.rule, one.explanation)
        )
        seconds = tuning.block_for if level is Level.BLOCK else 0.0
        score = math.fsum(book.points.values())
        return Verdict(bot_id, now, level, would, score, seconds, tuple(told[:10]), user_id)

    def _level(self, tuning: Tuning, book: _Book, signals: list[tuple[Rule, Mode, Signal]], modes: set[Mode]) -> Level:
        if any(rule.hard and mode in modes for rule, mode, _ in signals):
            return Level.QUARANTINE
        score = math.fsum(
            book.points.get(rule.name, 0.0) for rule in RULES if tuning.mode(rule.name, hard=rule.hard) in modes
        )
        if score >= tuning.block_at:
            return Level.BLOCK
        return Level.WATCH if score >= tuning.watch_at else Level.NONE

    def _tuning(self, bot_id: int) -> Tuning:
        return self.overrides.get(bot_id, self.tuning)

    def _keep_bounded(self) -> None:
        """Those of whom nothing was heard longest go first."""
        if len(self._books) > MOST_BOTS:
            for who in sorted(self._books, key=lambda one: self._books[one].at)[: len(self._books) - MOST_BOTS]:
                del self._books[who]


def _who(seen: Observation) -> _Who:
    return seen.bot_id, seen.user_id if isinstance(seen, UserVolume) else 0


def _add(book: _Book, signals: list[tuple[Rule, Mode, Signal]]) -> None:
    """Sums first, caps then: the order of the signals doesn't matter."""
    for rule in {rule.name: rule for rule, _, _ in signals}.values():
        added = math.fsum(signal.weight for of, _, signal in signals if of is rule)
        if added > 0:
            book.points[rule.name] = min(rule.cap, book.points.get(rule.name, 0.0) + added)


def _limit(book: _Book, observation: Observation) -> float | None:
    if isinstance(observation, Volume):
        return book.baselines.get(observation.flow, Baseline()).limit(observation.at)
    return None


def _learn(book: _Book, observation: Observation) -> None:
    if isinstance(observation, Volume) and 0 < observation.span <= _LONGEST_SAMPLE:
        known = book.baselines.get(observation.flow, Baseline())
        book.baselines[observation.flow] = known.after(observation.at, observation.count * 60 / observation.span)


def _worth_telling(book: _Book, level: Level, would: Level, now: float) -> bool:
    if now - book.told_at >= REPEAT_AFTER or level is Level.QUARANTINE:
        return True
    return level > book.told[0] or would > book.told[1]
