"""The rules: what is seen becomes a signal, with a weight and a plain sentence. Pure; one function a rule.

A hard signal has no innocent explanation and quarantines at once. A soft one adds its weight to the bot's score.
`RULES` is what the table in docs/threats.md is made from (`python -m botctl.security.threat.reference`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from botctl.security.threat.observations import (
    BadEvents,
    CanaryMet,
    CanaryReadable,
    ConnectionHog,
    DeniedRedis,
    DeniedSql,
    FailedLogins,
    Flow,
    LoggedIn,
    LoginMended,
    Observation,
    SecretsHeldBack,
    StolenLogin,
    Target,
    UserVolume,
    Volume,
)

_LONGEST = 100

SPEND_LEAST = 20_000.0
"""Tokens a minute; less is no flood, whatever the baseline says."""

FLOOD = 60.0
"""Updates a minute of one user from which on it is a flood: one a second, for a whole minute.

Twice as many count twice: who hurries once is let go, who floods is known within a minute or two.
"""

NOBODYS = frozenset({777000, 1087968824, 136817688})
"""Telegram's own ids, under which posts of channels and anonymous administrators come: none is one person's."""

ORPHAN = 5.0
"""Seconds that a session must be younger than the absence of its bot's process: looks are seconds apart."""


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
    """A key of another bot or of the fleet; or so much that nobody can say any more that it wasn't."""
    match sight.observation:
        case DeniedRedis(target=Target.FORGOTTEN, bot_id=0) as seen:
            return 1, f"somebody has pushed {_counted(seen.count, 'refusal')} out of Redis's log before they were seen"
        case DeniedRedis(target=Target.FORGOTTEN) as seen:
            return 1, f"was refused more different commands at once than Redis's log holds, {seen.count} at least"
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


def cross_bot_sql(sight: Sight) -> tuple[float, str] | None:
    """Rows, roles or tables of others."""
    match sight.observation:
        case DeniedSql(target=Target.FOREIGN) as seen:
            return seen.count, f"reached for what is not its own, {_times(seen.count)}: {_cut(seen.message)}"
    return None


def denied_sql(sight: Sight) -> tuple[float, str] | None:
    """A statement that no bot may use; a developer's mistake as well."""
    match sight.observation:
        case DeniedSql(target=Target.OWN | Target.POWER) as seen:
            return seen.count, f"was refused a statement {_times(seen.count)}: {_cut(seen.message)}"
    return None


def canary(sight: Sight) -> tuple[float, str] | None:
    """A row that is nobody's was changed, or its word came out of the bot."""
    match sight.observation:
        case DeniedSql(target=Target.CANARY) as seen:
            return seen.count, f"{_cut(seen.message)}, {_times(seen.count)}: it has got round row level security"
        case CanaryMet(count=count) if count > 0:
            return count, f"{_counted(count, 'message')} with the words of a canary: it reads what is not its own"
    return None


def canary_readable(sight: Sight) -> tuple[float, str] | None:
    """The database does not keep bots apart any more."""
    if isinstance(sight.observation, CanaryReadable):
        return 1, f"bots are not kept apart in the database: {_cut(sight.observation.what, 300)}"
    return None


def foreign_login(sight: Sight) -> tuple[float, str] | None:
    """A session with the bot's login that is not its process's."""
    match sight.observation:
        case LoggedIn(address=address, home=home) if not _same(address, home):
            return 1, f"somebody has logged in with its login from {_cut(address)}; bots come from {_cut(home)}"
        case LoggedIn(without_process=float(gone), age=age) if age + ORPHAN < gone:
            return 1, f"somebody has logged in with its login {gone - age:.0f} s after its process had ended"
    return None


def stolen_login(sight: Sight) -> tuple[float, str] | None:
    """A process of this bot is logged in as another."""
    if isinstance(sight.observation, StolenLogin):
        return 1, f"a process of its uid is logged in to the database as bot {sight.observation.used}"
    return None


def connection_hog(sight: Sight) -> tuple[float, str] | None:
    """Takes the database's connections from everybody, logged in or not."""
    match sight.observation:
        case ConnectionHog(bot_id=bot_id, count=count, most=most):
            whose = "a process of its uid holds" if bot_id else "bots, which have no uids of their own, hold"
            return 1, f"{whose} {count} connections to the database, where at most {most} are of use"
    return None


def failed_logins(sight: Sight) -> tuple[float, str] | None:
    """Somebody tries passwords; it is not known who."""
    match sight.observation:
        case FailedLogins(tried=tried, address=address, count=count) if count > 0:
            return count, f"{_counted(count, 'login')} as bot {tried} failed, from {_cut(address) or 'this machine'}"
    return None


def user_flood(sight: Sight) -> tuple[float, str] | None:
    """One user, more than a person writes, and more than all others together."""
    match sight.observation:
        case UserVolume(user_id=user, count=count, others=others, span=span) if span > 0:
            rate, rest = count * 60 / span, others * 60 / span
            if rate >= FLOOD and count > others and user not in NOBODYS:
                return rate / FLOOD, f"user {user} sent {rate:.0f} updates a minute, all others together {rest:.0f}"
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
    """Many more tokens than usual at this hour."""
    return _unusual(sight, Flow.SPEND, "tokens", SPEND_LEAST)


def _unusual(sight: Sight, flow: Flow, words: str, least: float = 0.0) -> tuple[float, str] | None:
    match sight:
        case Sight(Volume(flow=seen, count=count, span=span), limit=float(limit)) if seen is flow and span > 0:
            rate, limit = count * 60 / span, max(limit, least)
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
_LOG = "PostgreSQL's log"

RULES: tuple[Rule, ...] = (
    _rule(
        cross_bot_redis, _ACL, "A key of another bot or of the fleet was reached for, or the log flooded.", hard=True
    ),
    _rule(cross_bot_sql, _LOG, "A row, a role or a table of others was reached for (42501).", hard=True),
    _rule(stolen_login, "`bot_sessions`, the kernel", "Its process has logged in as another bot.", hard=True),
    _rule(connection_hog, "the kernel", "It holds the database's connections, logged in or not.", hard=True),
    _rule(canary, f"{_LOG}, the bot's counter", "A row that is nobody's was changed, or has come out.", hard=True),
    _rule(canary_readable, "a probe's login", "Bots are not kept apart in the database: told, of no bot.", hard=True),
    _rule(denied_redis, _ACL, "A Redis command that no bot may use.", weight=2, cap=12),
    _rule(denied_sql, _LOG, "A statement that no bot may use, or that errs (42501).", weight=1, cap=5),
    _rule(login_mended, "`mend_bots`", "Password or settings of its own login were changed.", weight=10, cap=20),
    _rule(foreign_login, "`bot_sessions`", "A session of its login, but not of its process.", weight=10, cap=20),
    _rule(failed_logins, _LOG, "Logins as a bot failed: told, of no bot.", weight=0.4, cap=8),
    _rule(secret_in_message, "the bot's counter", "A message with a token or key was held back.", weight=4, cap=8),
    _rule(bad_events, "router", "Events that are malformed, oversize, or not a bot's to publish.", weight=1, cap=8),
    _rule(message_rate, "the bot's counter", "Many more messages than usual at this hour.", weight=1, cap=4.5),
    _rule(spend_rate, "the bot's counter", "Many more tokens than usual at this hour.", weight=1, cap=4.5),
    _rule(user_flood, "the bot's counter", "One user sends more than all others: of the user.", weight=2, cap=12),
)


def judge(rule: Rule, sight: Sight, weight: float) -> Signal | None:
    """What the rule says; `weight` is that of the tuning."""
    found = rule.judge(sight)
    if found is None:
        return None
    occurrences, explanation = found
    return Signal(rule.name, sight.observation.bot_id, rule.hard, min(weight * occurrences, rule.cap), explanation)


def _same(address: str, home: str) -> bool:
    """Whether two addresses are one machine's; over a socket there is none."""
    return address == home or (_is_local(address) and _is_local(home))


def _is_local(address: str) -> bool:
    return address in ("", "::1", "[local]") or address.startswith("127.")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _cut(text: str, longest: int = _LONGEST) -> str:
    """What an attacker wrote, made fit for one line."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"
