"""Ordinary traffic of a fleet, minute by minute, for measuring false positives. The same seed gives the same days.

What is in it, for 20 bots from 0.2 to 60 messages a minute at their mean:

- a day: traffic follows a cosine with its peak at 19:00 UTC and a fifth of it at night; at weekends 1.4 times as much;
- chance: counts of a minute are Poisson, times a gamma-distributed mood of the quarter of an hour (shape 4), because
  people come in company;
- half of a bot's messages are completions, of 300 to 6,000 tokens with what the model is shown (log-normal, its
  median 1,200);
- each bot has, once in a week, a campaign: five times the traffic within ten minutes of rise, for half an hour;
- each bot has, once a day, an hour in which the completion API is flaky: a third of its calls are made again;
- each bot's developer errs once a day: three events outside the catalogue within five minutes;
- each bot holds back one message a week because a user has sent it something that looks like a token;
- each bot's developer deploys, once a week, a handler with a statement that no bot may use: refused up to three times a
  minute for ten minutes, then taken back;
- each bot's developer deploys, once a week, a handler that reflects all tables as it starts (SQLAlchemy, an ORM's
  generator): refused at five starts within a quarter of an hour, then taken back;
- four of the bots have a job that asks for the sizes of all tables, refused every ten minutes of a day a week;
- each bot's developer forgets `bot_id` in a model, and the ORM says NULL: refused as NULL where it must not be (23502),
  which is no observation and so none here; that it is so, an integration test says;
- each bot has, twice a day, a user in a hurry: 20 to 120 updates within a minute (forwarded messages, an album, a
  button that is pressed again and again), and for two minutes a quarter of that;
- each bot is restarted once a day, and logs in anew three times, from beside `control`;
- somebody mistypes a bot's password three times, once a week in the fleet.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from botctl.security.threat.denials import target_of
from botctl.security.threat.observations import (
    BadEvents,
    DeniedSql,
    FailedLogins,
    Flow,
    LoggedIn,
    Observation,
    SecretsHeldBack,
    UserVolume,
    Volume,
)

BOTS = 20
MINUTES_A_DAY = 1440
START = 1_800_057_600.0
"""Midnight UTC, a Saturday."""
_STARTS = (0, 1, 3, 7, 15)
"""Minutes after a deployment that fails at its start, with the backoff between."""


def traffic(days: int, seed: int) -> Iterator[tuple[float, list[Observation]]]:
    """Each minute's end and what is seen in it."""
    dice = random.Random(seed)
    means = {bot: 0.2 * 300 ** (n / (BOTS - 1)) for n, bot in enumerate(range(1, BOTS + 1))}
    week = 7 * MINUTES_A_DAY
    campaign = {bot: dice.randrange(week) for bot in means}
    leak = {bot: dice.randrange(week) for bot in means}
    flaky = {bot: dice.randrange(MINUTES_A_DAY) for bot in means}
    mistake = {bot: dice.randrange(MINUTES_A_DAY) for bot in means}
    deploy = {bot: dice.randrange(week) for bot in means}
    restart = {bot: dice.randrange(MINUTES_A_DAY) for bot in means}
    hurries = {bot: (dice.randrange(MINUTES_A_DAY), dice.randrange(MINUTES_A_DAY)) for bot in means}
    hurry = dict.fromkeys(means, 0)
    reflect = {bot: dice.randrange(week) for bot in means}
    sizes = {bot: dice.randrange(week) for bot in means}
    mistyped = dice.randrange(week)
    mood = dict.fromkeys(means, 1.0)
    for minute in range(days * MINUTES_A_DAY):
        at = START + 60 * (minute + 1)
        seen: list[Observation] = []
        for bot, mean in means.items():
            if minute % 15 == 0:
                mood[bot] = dice.gammavariate(4, 0.25)
            expected = mean * _of_day(minute) * mood[bot] * _of_campaign((minute - campaign[bot]) % week)
            messages = _poisson(dice, expected)
            completions = _poisson(dice, expected / 2)
            if (minute - flaky[bot]) % MINUTES_A_DAY < 60:
                completions += _poisson(dice, expected / 6)
            seen.append(Volume(at=at, bot_id=bot, flow=Flow.MESSAGES, count=messages, span=60))
            tokens = sum(min(6000, max(300, dice.lognormvariate(7.09, 0.6))) for _ in range(completions))
            seen.append(Volume(at=at, bot_id=bot, flow=Flow.SPEND, count=round(tokens), span=60))
            if (minute - mistake[bot]) % MINUTES_A_DAY in (0, 2, 4):
                seen.append(BadEvents(at=at, bot_id=bot, count=1, reason="data is not as in the catalogue"))
            if (minute - deploy[bot]) % week < 10 and (refused := _poisson(dice, min(expected, 1.0))):
                seen.append(_denied(at, bot, "permission denied for table messages", min(refused, 3)))
            if (minute - reflect[bot]) % week in _STARTS:
                seen.append(_denied(at, bot, "permission denied for schema botctl_internal"))
            if bot % 5 == 0 and (since := (minute - sizes[bot]) % week) < MINUTES_A_DAY and since % 10 == 0:
                seen.append(_denied(at, bot, "permission denied for schema botctl_internal"))
            since = min((minute - begin) % MINUTES_A_DAY for begin in hurries[bot])
            if since == 0:
                hurry[bot] = dice.randint(20, 120)
            if since < 3 and (count := hurry[bot] if since == 0 else hurry[bot] // 4) >= 30:
                who = 1 + dice.randrange(1000)
                seen.append(UserVolume(at=at, bot_id=bot, user_id=who, count=count, others=messages, span=60))
            if (minute - restart[bot]) % MINUTES_A_DAY == 0:
                seen += [_login(at, bot)] * 3
            if minute % week == leak[bot]:
                seen.append(SecretsHeldBack(at=at, bot_id=bot, count=1))
        if minute % week == mistyped:
            seen.append(FailedLogins(at=at, tried=1, address="127.0.0.1", count=3))
        yield at, seen


def _login(at: float, bot: int) -> Observation:
    return LoggedIn(at=at, bot_id=bot, address="127.0.0.1", home="127.0.0.1", age=2.0, without_process=None)


def _denied(at: float, bot: int, words: str, count: int = 1) -> Observation:
    return DeniedSql(at=at, bot_id=bot, message=words, target=target_of(words), count=count)


def _of_day(minute: int) -> float:
    weekend = 1.4 if (minute // MINUTES_A_DAY) % 7 in (0, 1) else 1.0
    return weekend * (0.6 + 0.4 * math.cos((minute / 60 - 19) / 24 * 2 * math.pi))


def _of_campaign(since: int) -> float:
    return 1 + 4 * min(since / 10, 1.0) if since < 40 else 1.0


def _poisson(dice: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        count += 1
    return count
