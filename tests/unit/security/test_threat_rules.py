"""Each rule by itself: what it says of what it is for, and that it keeps silent otherwise."""

from __future__ import annotations

import pytest

from botctl.fleet.threats import KNOWN
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
from botctl.security.threat.rules import RULES, Sight, judge

NOW = 1_800_000_000.0

SEEN: dict[str, tuple[Observation, float | None, float, str]] = {
    "cross_bot_redis": (
        DeniedRedis(at=NOW, bot_id=7, command="xadd", target=Target.FOREIGN, key="n:bus:bot:8:out", count=2),
        None,
        0,
        "tried xadd on n:bus:bot:8:out, which is not its own, 2 times",
    ),
    "denied_redis": (
        DeniedRedis(at=NOW, bot_id=7, command="config", target=Target.POWER),
        None,
        2,
        "tried config, which no bot may use, once",
    ),
    "cross_bot_sql": (
        DeniedSql(at=NOW, bot_id=7, message='permission denied to set role "bot_8"', target=Target.FOREIGN),
        None,
        0,
        'reached for what is not its own, once: permission denied to set role "bot_8"',
    ),
    "denied_sql": (
        DeniedSql(at=NOW, bot_id=7, message="permission denied for table users", target=Target.POWER, count=3),
        None,
        3,
        "was refused a statement 3 times: permission denied for table users",
    ),
    "canary": (
        CanaryMet(at=NOW, bot_id=7, count=1),
        None,
        0,
        "1 message with the words of a canary: it reads what is not its own",
    ),
    "canary_readable": (
        CanaryReadable(at=NOW, what="a bot's login reads rows of others in users"),
        None,
        0,
        "bots are not kept apart in the database: a bot's login reads rows of others in users",
    ),
    "foreign_login": (
        LoggedIn(at=NOW, bot_id=7, address="10.1.1.9", home="10.1.1.1", age=1.0, without_process=None),
        None,
        10,
        "somebody has logged in with its login from 10.1.1.9; bots come from 10.1.1.1",
    ),
    "stolen_login": (
        StolenLogin(at=NOW, bot_id=7, used=8),
        None,
        0,
        "a process of its uid is logged in to the database as bot 8",
    ),
    "connection_hog": (
        ConnectionHog(at=NOW, bot_id=7, count=110, most=32),
        None,
        0,
        "a process of its uid holds 110 connections to the database, where at most 32 are of use",
    ),
    "failed_logins": (
        FailedLogins(at=NOW, tried=7, address="10.1.1.9", count=5),
        None,
        2,
        "5 logins as bot 7 failed, from 10.1.1.9",
    ),
    "user_flood": (
        UserVolume(at=NOW, bot_id=7, user_id=42, count=150, others=20, span=60),
        None,
        5,
        "user 42 sent 150 updates a minute, all others together 20",
    ),
    "login_mended": (
        LoginMended(at=NOW, bot_id=7),
        None,
        10,
        "changed the password or the settings of its own database login; they were put back",
    ),
    "secret_in_message": (
        SecretsHeldBack(at=NOW, bot_id=7, count=1),
        None,
        4,
        "1 message with a token or key in it held back",
    ),
    "bad_events": (
        BadEvents(at=NOW, bot_id=7, count=2, reason="no event"),
        None,
        2,
        "published 2 events that were refused: no event",
    ),
    "message_rate": (
        Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=100, span=10),
        40.0,
        1,
        "600 messages a minute, where at most 40 are usual for it at this hour",
    ),
    "spend_rate": (
        Volume(at=NOW, bot_id=7, flow=Flow.SPEND, count=100_000, span=60),
        40_000.0,
        1,
        "100000 tokens a minute, where at most 40000 are usual for it at this hour",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_speaks_of_what_it_is_for_and_of_nothing_else(rule: object) -> None:
    for name, (observation, limit, weight, words) in SEEN.items():
        signal = judge(rule, Sight(observation, limit), rule.weight)  # type: ignore[arg-type, attr-defined]
        if name == rule.name:  # type: ignore[attr-defined]
            assert signal is not None
            assert (signal.weight, signal.explanation) == (weight, words)
            assert signal.hard is (weight == 0)
        else:
            assert signal is None


def test_every_rule_is_tried_here() -> None:
    assert SEEN.keys() == {rule.name for rule in RULES} == KNOWN


@pytest.mark.parametrize(
    ("observation", "limit"),
    [
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=1000, span=10), None),
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=10, span=60), 40.0),
        (Volume(at=NOW, bot_id=7, flow=Flow.MESSAGES, count=10, span=0), 40.0),
        (SecretsHeldBack(at=NOW, bot_id=7, count=0), None),
        (BadEvents(at=NOW, bot_id=7, count=0), None),
        (CanaryMet(at=NOW, bot_id=7, count=0), None),
        (FailedLogins(at=NOW, tried=7, address="", count=0), None),
        (Volume(at=NOW, bot_id=7, flow=Flow.SPEND, count=10_000, span=60), 40.0),  # less than is ever judged
        (UserVolume(at=NOW, bot_id=7, user_id=42, count=59, others=0, span=60), None),  # no faster than a person
        (UserVolume(at=NOW, bot_id=7, user_id=42, count=500, others=500, span=60), None),  # no more than the others
        (UserVolume(at=NOW, bot_id=7, user_id=42, count=500, others=0, span=0), None),
        (UserVolume(at=NOW, bot_id=7, user_id=777000, count=500, others=0, span=60), None),  # posts of channels
        (LoggedIn(at=NOW, bot_id=7, address="10.1.1.1", home="10.1.1.1", age=1.0, without_process=None), None),
        (LoggedIn(at=NOW, bot_id=7, address="::1", home="127.0.0.1", age=1.0, without_process=None), None),
        (LoggedIn(at=NOW, bot_id=7, address="", home="127.0.0.2", age=1.0, without_process=None), None),
        # of the process that has just ended, or that is just being started
        (LoggedIn(at=NOW, bot_id=7, address="", home="", age=60.0, without_process=10.0), None),
        (LoggedIn(at=NOW, bot_id=7, address="", home="", age=1.0, without_process=5.0), None),
    ],
)
def test_nothing_is_said_without_a_reason(observation: Observation, limit: float | None) -> None:
    assert all(judge(rule, Sight(observation, limit), rule.weight) is None for rule in RULES)


def test_what_an_attacker_writes_stays_on_one_short_line() -> None:
    seen = DeniedRedis(at=NOW, bot_id=7, command="xadd", target=Target.FOREIGN, key="a\nb\x1b[31m" + "k" * 5000)
    said = [signal for rule in RULES if (signal := judge(rule, Sight(seen), rule.weight))]
    assert len(said) == 1
    assert said[0].explanation.isprintable()
    assert len(said[0].explanation) < 200


def test_a_session_that_began_when_its_bot_had_no_process_is_somebody_elses() -> None:
    seen = LoggedIn(at=NOW, bot_id=7, address="", home="", age=3.0, without_process=63.0)
    said = [signal for rule in RULES if (signal := judge(rule, Sight(seen), rule.weight))]
    assert [(one.rule, one.hard) for one in said] == [("foreign_login", False)]
    assert "60 s after its process had ended" in said[0].explanation


def test_a_canary_that_is_touched_in_the_database_is_hard() -> None:
    seen = DeniedSql(at=NOW, bot_id=7, message="a canary row was touched in messages", target=Target.CANARY)
    said = [signal for rule in RULES if (signal := judge(rule, Sight(seen), rule.weight))]
    assert [(one.rule, one.hard) for one in said] == [("canary", True)]


def test_who_floods_the_log_of_refusals_may_have_hidden_an_attempt_in_it() -> None:
    seen = DeniedRedis(at=NOW, bot_id=7, command="", target=Target.FORGOTTEN, count=128)
    said = {rule.name: signal for rule in RULES if (signal := judge(rule, Sight(seen, None), rule.weight)) is not None}
    assert list(said) == ["cross_bot_redis"]
    assert said["cross_bot_redis"].hard
    assert said["cross_bot_redis"].explanation.endswith("than Redis's log holds, 128 at least")
