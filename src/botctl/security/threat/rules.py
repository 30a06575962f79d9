"""The rules: what is seen becomes a signal, with a weight and a plain sentence. Pure; one function a rule.

A hard signal has no innocent explanation and quarantines at once. A soft one adds its weight to the bot's score.
`RULES` is what the table in docs/security.md is made from (`python -m botctl.security.threat.reference`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from botctl.security.threat.observations import (
    BadEvents,
    DeniedRedis,
    Flow,
    LoginMended,
    Observation,
    SecretsHeldBack,
    Target,
    Volume,
)

_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Signal:
    """What one rule says of one thing seen. `weight` is in points; a hard one needs none."""

    rule: str
    bot_id: int
    hard: bool
    weight: float
    explanation: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What a rule looks at: the observation, and for flows the limit of the bot's baseline (None: not known yet)."""

    observation: Observation
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`weight` of one occurrence; `cap` is the most it can bring to a score, so that no soft rule alone need block."""

    name: str
    hard: bool
    weight: float
    cap: float
    summary: str
    source: str
    judge: Callable[[Sight], tuple[float, str] | None]
    """How many occurrences, and the sentence; None when the rule has nothing to say."""


def cross_bot_redis(sight: Sight) -> tuple[float, str] | None:
    """A key of another bot or of the fleet."""
    match sight.observation:
        case DeniedRedis(target=Target.FOREIGN) as seen:
            return (
                seen.count,
                f"tried {_cut(seen.command)} on {_cut(seen.key)}, which is not its own, {_times(seen.count)}",
            )
    return None


def denied_redis(sight: Sight) -> tuple[float, str] | None:
    """A command that no bot may use, or its own key in a way it may not."""
    match sight.observation:
        case DeniedRedis(target=Target.OWN | Target.POWER) as seen:
            return seen.count, f"tried {_cut(seen.command)}, which no bot may use, {_times(seen.count)}"
    return None


def login_mended(sight: Sight) -> tuple[float, str] | None:
    """The bot has altered its own login."""
    if isinstance(sight.observation, LoginMended):
        return 1, "changed the password or the settings of its own database login; they were put back"
    return None


def secret_in_message(sight: Sight) -> tuple[float, str] | None:
    """A token or key in a message, which was not sent."""
    match sight.observation:
        case SecretsHeldBack(count=count) if count > 0:
            return count, f"{_counted(count, 'message')} with a token or key in it held back"
    return None


def bad_events(sight: Sight) -> tuple[float, str] | None:
    """Events outside the catalogue, forged or oversize."""
    match sight.observation:
        case BadEvents(count=count, reason=reason) if count > 0:
            return count, f"published {_counted(count, 'event')} that were refused: {_cut(reason)}"
    return None


def message_rate(sight: Sight) -> tuple[float, str] | None:
    """Many more messages than usual at this hour."""
    return _unusual(sight, Flow.MESSAGES, "messages")


def spend_rate(sight: Sight) -> tuple[float, str] | None:
    """Many more completions than usual at this hour."""
    return _unusual(sight, Flow.SPEND, "completions")


def _unusual(sight: Sight, flow: Flow, words: str) -> tuple[float, str] | None:
    match sight:
        case Sight(Volume(flow=seen, count=count, span=span), limit=float(limit)) if seen is flow and span > 0:
            rate = count * 60 / span
            if rate > limit:
                return 1, f"{rate:.0f} {words} a minute, where at most {limit:.0f} are usual for it at this hour"
    return None


def _rule(
    judge: Callable[[Sight], tuple[float, str] | None],
    source: str,
    summary: str,
    *,
    hard: bool = False,
    weight: float = 0.0,
    cap: float = 0.0,
) -> Rule:
    return Rule(name=judge.__name__, hard=hard, weight=weight, cap=cap, summary=summary, source=source, judge=judge)


_ACL = "Redis ACL LOG"

RULES: tuple[Rule, ...] = (
    _rule(cross_bot_redis, _ACL, "A key of another bot or of the fleet was reached for.", hard=True),
    _rule(denied_redis, _ACL, "A Redis command that no bot may use.", weight=2, cap=12),
    _rule(login_mended, "`mend_bots`", "Password or settings of its own login were changed.", weight=10, cap=20),
    _rule(secret_in_message, "the bot's counter", "A message with a token or key was held back.", weight=4, cap=8),
    _rule(bad_events, "router", "Events that are malformed, oversize, or not a bot's to publish.", weight=1, cap=8),
    _rule(message_rate, "the bot's counter", "Many more messages than usual at this hour.", weight=1, cap=4.5),
    _rule(spend_rate, "the bot's counter", "Many more completions than usual at this hour.", weight=1, cap=4.5),
)


def judge(rule: Rule, sight: Sight, weight: float) -> Signal | None:
    """What the rule says; `weight` is that of the tuning."""
    found = rule.judge(sight)
    if found is None:
        return None
    occurrences, explanation = found
    return Signal(rule.name, sight.observation.bot_id, rule.hard, min(weight * occurrences, rule.cap), explanation)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _cut(text: str) -> str:
    """What an attacker wrote, made fit for one line."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: _LONGEST + 1])
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"
