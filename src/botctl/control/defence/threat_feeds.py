"""Where threat detection looks: Redis's ACL LOG, counters of bots, what router and database watch tell.

Turns what servers say into observations; judges nothing. Who did something is taken from the server's own account of
the connection, never from the command.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from botctl.bus.stream_reply import text_of
from botctl.bus.topology import Topology
from botctl.bus.wire import transact
from botctl.control.ports import BotSight, FleetSight
from botctl.security.threat.observations import (
    CanaryMet,
    DeniedRedis,
    Flow,
    Observation,
    SecretsHeldBack,
    Target,
    UserVolume,
    Volume,
)

_COUNTED = {"messages_out": Flow.MESSAGES, "tokens": Flow.SPEND}
_MOST = 128
"""As many entries as a server keeps by default. More would be no remedy: each may hold a key of a megabyte, which
counts as memory used, and whoever pushes entries out pushes out a thousand as well."""
_FLOOD = 32
"""Different refusals of one bot between two looks, when the log is full; a program's mistake is one of them."""
_LOGGED_IN = re.compile(r"(?:^| )user=(\S+)")
"""In the account of a connection; what a client may set there has no blanks."""
_COUNTS = re.compile(r"^acl_access_denied_[a-z_]+:(\d+)\r?$", re.MULTILINE)
"""In INFO; servers have these four and others: auth, cmd, key, channel."""
_HELD_BACK = "sends_held_back"
_CANARIES = "canaries_held_back"
MOST_USERS = 10
"""Of one bot in a minute; a bot that invents users has no more judged."""


@dataclass(frozen=True, slots=True)
class _Denial:
    reason: str
    user: str
    object: str
    on_connection_of: str


_Entry = tuple[_Denial, str, str]
"""With its number and time of creation, which Redis has from 7.2 on: an equal one that comes later is another."""


class AclLog:
    """New entries of ACL LOG. `redis` needs ACL.

    The server joins equal entries that follow each other within a minute and counts them, so that what counts is by how
    much the sum of equal ones has grown. A failed AUTH names the user that was *tried*, who may be the victim: it is
    taken from the connection who tried, and one that nobody has logged in on is nobody's. What was there before the
    first look is left out: it may be from before a release.

    The log holds few entries: a bot that is refused many different things at once pushes out what it tried before, and
    so does whoever isn't logged in at all. So who fills it is told of; and the server's own count of refusals is
    compared with what the log has shown: what is missing was pushed out, and is told as nobody's. A server of our `own`
    has its log emptied at each look, which also keeps answers small.
    """

    def __init__(self, redis: Redis, topology: Topology, *, own: bool = False) -> None:
        self._commands = [
            ("ACL", "LOG", str(_MOST)),
            ("INFO", "stats"),
            *([("ACL", "LOG", "RESET")] if own else []),
        ]
        self._own = own
        self._redis = redis
        self._topology = topology
        self._user = re.compile(re.escape(topology.user(0).removesuffix("0")) + r"([0-9]{1,20})")
        self._seen: Counter[_Entry] | None = None
        self._refused = 0

    async def read(self, now: float) -> list[Observation]:
        """What is new since the last call. Raises what Redis raises when it is away."""
        # Not by `acl_log`: that one can't read the answer when a bot has called its client library `a=b`.
        reply, stats, *_ = await transact(self._redis, self._commands)
        if isinstance(reply, BaseException):
            raise reply
        entries = [_fields(entry) for entry in reply]
        seen: Counter[_Entry] = Counter()
        for entry in entries:
            seen[_denial(entry), entry.get("entry-id", ""), entry.get("timestamp-created", "")] += int(entry["count"])
        before, self._seen = self._seen, Counter() if self._own else seen
        refused_before, self._refused = self._refused, _refused(stats)
        if before is None:
            return []
        grown: Counter[_Denial] = Counter()
        for (denial, *_), count in (seen - before).items():
            grown[denial] += count
        found = [self._observation(denial, now, count) for denial, count in grown.items()]
        told = [one for one in found if one is not None]
        # A server that was restarted counts anew.
        lost = self._refused - (refused_before if self._refused >= refused_before else 0) - grown.total()
        if len(entries) >= _MOST:
            told += _floods(told, now)
        if lost > 0:
            told.append(DeniedRedis(at=now, bot_id=0, command="", target=Target.FORGOTTEN, count=lost))
        return [*told]

    def _observation(self, denial: _Denial, now: float, count: int) -> DeniedRedis | None:
        who = denial.on_connection_of if denial.reason == "auth" else denial.user
        bot = self._user.fullmatch(who)
        if bot is None:
            return None
        bot_id, what = int(bot[1]), denial.object
        match denial.reason:
            case "auth" if denial.user != who:
                return DeniedRedis(
                    at=now, bot_id=bot_id, command="AUTH", target=Target.FOREIGN, key=denial.user, count=count
                )
            case "key":
                own = what in (self._topology.mailbox(bot_id), self._topology.out(bot_id))
                return DeniedRedis(
                    at=now,
                    bot_id=bot_id,
                    command="a command",
                    target=Target.OWN if own else Target.FOREIGN,
                    key=what,
                    count=count,
                )
            case "command" | "channel":
                return DeniedRedis(at=now, bot_id=bot_id, command=what, target=Target.POWER, count=count)
        return None


def _floods(told: Sequence[DeniedRedis], now: float) -> list[DeniedRedis]:
    """Who has filled the log."""
    return [
        DeniedRedis(at=now, bot_id=bot_id, command="", target=Target.FORGOTTEN, count=number)
        for bot_id, number in Counter(one.bot_id for one in told).items()
        if number >= _FLOOD
    ]


class Counters:
    """Growth of the counters that bots report. A bot that lies here hides itself from these rules, and nobody else."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], tuple[float, dict[str, float]]] = {}

    def read(self, sight: FleetSight, now: float) -> list[Observation]:
        """What has been counted since the last call, a new process beginning at nothing."""
        found: list[Observation] = []
        seen: dict[tuple[int, int], tuple[float, dict[str, float]]] = {}
        for bot in sight.bots:
            if bot.pid is None:
                continue
            key = (bot.bot_id, bot.incarnation)
            at, before = self._before.get(key, (0.0, {}))
            seen[key] = (now, dict(bot.counters))
            if (held := bot.counters.get(_HELD_BACK, 0.0) - before.get(_HELD_BACK, 0.0)) > 0:
                found.append(SecretsHeldBack(at=now, bot_id=bot.bot_id, count=int(held)))
            if (met := bot.counters.get(_CANARIES, 0.0) - before.get(_CANARIES, 0.0)) > 0:
                found.append(CanaryMet(at=now, bot_id=bot.bot_id, count=int(met)))
            if at and now > at:
                for name, flow in _COUNTED.items():
                    grown = max(0.0, bot.counters.get(name, 0.0) - before.get(name, 0.0))
                    found.append(Volume(at=now, bot_id=bot.bot_id, flow=flow, count=grown, span=now - at))
        self._before = seen
        return found


class Talkative:
    """The most talkative users of each bot's last whole minute, each minute once.

    What is there at the first look is left out: the `control` before this one may have judged it.
    """

    def __init__(self) -> None:
        self._minutes: dict[tuple[int, int], float] | None = None

    def read(self, sight: FleetSight, now: float) -> list[Observation]:
        """What was not seen at the last call."""
        running = [bot for bot in sight.bots if bot.pid is not None]
        minutes = {(bot.bot_id, bot.incarnation): bot.gauges.get("user_minute", 0.0) for bot in running}
        before, self._minutes = self._minutes, minutes
        if before is None:
            return []
        fresh = [bot for bot in running if minutes[key := (bot.bot_id, bot.incarnation)] != before.get(key, 0.0)]
        return [one for bot in fresh for one in self._users(bot, now)]

    def _users(self, bot: BotSight, now: float) -> list[Observation]:
        total = bot.gauges.get("user_updates", 0.0)
        found: list[Observation] = []
        for name, count in bot.gauges.items():
            _, _, user = name.partition("user:")
            if user.isdecimal() and len(user) < 20:
                others = max(0.0, total - count)
                found.append(
                    UserVolume(at=now, bot_id=bot.bot_id, user_id=int(user), count=count, others=others, span=60.0)
                )
        return found[:MOST_USERS]


def _refused(stats: Any) -> int:
    """How much the server has refused by its access lists since its start; 0 from one that doesn't count."""
    if not isinstance(stats, bytes | str):
        return 0
    return sum(int(number) for number in _COUNTS.findall(text_of(stats)))


def _denial(entry: Mapping[str, str]) -> _Denial:
    logged_in = _LOGGED_IN.search(entry["client-info"])
    return _Denial(entry["reason"], entry["username"], entry["object"], logged_in[1] if logged_in else "")


def _fields(entry: Any) -> dict[str, str]:
    """A map over RESP3, a flat list over RESP2."""
    pairs = entry.items() if isinstance(entry, Mapping) else zip(entry[::2], entry[1::2], strict=True)
    return {text_of(name): text_of(value) for name, value in pairs}
