"""Scores, verdicts and baselines: laws that hold for whatever is seen."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from botctl.fleet.threats import Mode, RuleTuning, Tuning
from botctl.security.threat import detection
from botctl.security.threat.baseline import ENOUGH, LEAST, Baseline
from botctl.security.threat.detection import Detector, Level, Verdict
from botctl.security.threat.observations import (
    BadEvents,
    CanaryReadable,
    DeniedRedis,
    FailedLogins,
    Flow,
    LoginMended,
    Observation,
    SecretsHeldBack,
    Target,
    UserVolume,
    Volume,
)

NOW = 1_800_000_000.0
_AT = st.just(NOW)
_BOT = st.integers(1, 3)
_COUNT = st.integers(0, 20)
OBSERVATIONS: st.SearchStrategy[Observation] = st.one_of(
    st.builds(DeniedRedis, at=_AT, bot_id=_BOT, command=st.just("xadd"), target=st.sampled_from(Target), count=_COUNT),
    st.builds(LoginMended, at=_AT, bot_id=_BOT),
    st.builds(SecretsHeldBack, at=_AT, bot_id=_BOT, count=_COUNT),
    st.builds(BadEvents, at=_AT, bot_id=_BOT, count=_COUNT),
)


def _foreign(bot_id: int = 1) -> Observation:
    return DeniedRedis(at=NOW, bot_id=bot_id, command="xadd", target=Target.FOREIGN, key="k")


def _told(verdicts: list[Verdict]) -> list[tuple[int, Level, Level, float]]:
    return [(one.bot_id, one.level, one.would, round(one.score, 6)) for one in verdicts]


@given(st.lists(OBSERVATIONS, max_size=30), st.randoms(use_true_random=False))
def test_the_order_within_a_tick_does_not_matter(seen: list[Observation], dice: random.Random) -> None:
    shuffled = list(seen)
    dice.shuffle(shuffled)
    assert _told(Detector().tick(seen, NOW)) == _told(Detector().tick(shuffled, NOW))


@given(st.lists(OBSERVATIONS, max_size=30), st.lists(st.floats(0, 5000), max_size=8))
def test_a_score_only_falls_while_nothing_is_seen(seen: list[Observation], pauses: list[float]) -> None:
    detector = Detector()
    detector.tick(seen, NOW)
    now, before = NOW, [detector.score(bot, NOW) for bot in (1, 2, 3)]
    for pause in pauses:
        now += pause
        after = [detector.score(bot, now) for bot in (1, 2, 3)]
        assert all(left <= was for left, was in zip(after, before, strict=True))
        before = after


@given(st.lists(st.lists(OBSERVATIONS, max_size=10), max_size=6))
def test_no_verdict_without_a_signal(ticks: list[list[Observation]]) -> None:
    detector = Detector()
    for n, seen in enumerate(ticks):
        for verdict in detector.tick(seen, NOW + n):
            assert verdict.signals
            assert verdict.explanation
            assert verdict.bot_id in {one.bot_id for one in seen}
        assert detector.tick([], NOW + n + 0.5) == []


def test_a_score_halves_with_its_half_life() -> None:
    detector = Detector()
    detector.tick([LoginMended(at=NOW, bot_id=1)], NOW)
    assert detector.score(1, NOW) == 10
    assert detector.score(1, NOW + 600) == pytest.approx(5)


def test_a_clock_that_goes_back_raises_nothing() -> None:
    detector = Detector()
    detector.tick([LoginMended(at=NOW, bot_id=1)], NOW)
    assert detector.score(1, NOW - 10_000) == 10


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "MOST_BOTS", 50)
    detector = Detector()
    for bot_id in range(1, 200):
        detector.tick([LoginMended(at=NOW, bot_id=bot_id)], NOW + bot_id)
        assert len(detector) <= 50
    assert detector.score(199, NOW + 199) == 10


def test_a_hard_signal_quarantines_at_once() -> None:
    (verdict,) = Detector().tick([_foreign()], NOW)
    assert verdict.level is Level.QUARANTINE
    assert verdict.signals[0].rule == "cross_bot_redis"


def test_soft_signals_begin_in_shadow() -> None:
    (verdict,) = Detector().tick([LoginMended(at=NOW, bot_id=1)], NOW)
    assert (verdict.level, verdict.would) == (Level.NONE, Level.BLOCK)


def test_enforced_soft_signals_block_for_a_time() -> None:
    detector = Detector(Tuning(soft=Mode.ENFORCE))
    (verdict,) = detector.tick([LoginMended(at=NOW, bot_id=1)], NOW)
    assert (verdict.level, verdict.seconds) == (Level.BLOCK, 900)


def test_one_noisy_soft_rule_alone_does_not_block() -> None:
    detector = Detector(Tuning(soft=Mode.ENFORCE))
    seen: list[Verdict] = []
    for second in range(600):
        seen += detector.tick([BadEvents(at=NOW, bot_id=1, count=1000)], NOW + second)
    assert {verdict.level for verdict in seen} == {Level.WATCH}


def test_a_verdict_that_holds_is_not_told_every_second() -> None:
    detector = Detector()
    told = [detector.tick([BadEvents(at=NOW, bot_id=1, count=9)], NOW + second) for second in range(1201)]
    assert sum(map(len, told)) == 3


def test_a_rule_can_be_silenced_for_one_bot() -> None:
    silent = Tuning(rules={"cross_bot_redis": RuleTuning(mode=Mode.OFF)})
    detector = Detector(overrides={1: silent})
    assert [one.bot_id for one in detector.tick([_foreign(1), _foreign(2)], NOW)] == [2]


def test_a_hard_rule_in_shadow_is_told_only() -> None:
    (verdict,) = Detector(Tuning(hard=Mode.SHADOW)).tick([_foreign()], NOW)
    assert (verdict.level, verdict.would) == (Level.NONE, Level.QUARANTINE)


def test_a_weight_can_be_changed() -> None:
    detector = Detector(Tuning(rules={"login_mended": RuleTuning(weight=1)}))
    assert detector.tick([LoginMended(at=NOW, bot_id=1)], NOW) == []


def test_an_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="no such rule: cross_bot; there are bad_events"):
        Tuning.model_validate({"rules": {"cross_bot": {"mode": "off"}}})


def _volume(minute: int, count: float) -> Volume:
    return Volume(at=NOW + 60 * minute, bot_id=1, flow=Flow.MESSAGES, count=count, span=60)


def test_a_bot_nobody_knows_yet_is_not_judged() -> None:
    assert Baseline().limit(NOW) is None
    detector = Detector()
    for minute in range(ENOUGH):
        assert detector.tick([_volume(minute, 10_000)], NOW + 60 * minute) == []


def test_ten_times_the_usual_rate_is_a_signal() -> None:
    detector, seen = Detector(), []
    for minute in range(60):
        seen += detector.tick([_volume(minute, 20)], NOW + 60 * minute)
    assert seen == []
    for minute in range(60, 70):
        seen += detector.tick([_volume(minute, 200)], NOW + 60 * minute)
    assert [verdict.would for verdict in seen] == [Level.WATCH]


def test_an_attack_teaches_the_baseline_little() -> None:
    base = Baseline()
    for _ in range(60):
        base = base.after(NOW, 20)
    before = base.limit(NOW)
    assert before is not None
    after = base.after(NOW, 1e9).limit(NOW)
    assert after is not None
    assert before <= after < 1.2 * before


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=ENOUGH, max_size=200))
def test_a_limit_is_never_below_the_least_nor_endless(rates: list[float]) -> None:
    base = Baseline()
    for rate in rates:
        base = base.after(NOW, rate)
    limit = base.limit(NOW)
    assert limit is not None
    assert LEAST <= limit <= 1e8
    assert len(base.hours) == 1


def _flood(at: float, user_id: int = 42) -> Observation:
    return UserVolume(at=at, bot_id=1, user_id=user_id, count=200, others=10, span=60)


def test_a_user_who_floods_is_blocked_for_a_time_and_the_bot_is_not_blamed() -> None:
    detector = Detector(Tuning(soft=Mode.ENFORCE))
    found = [verdict for n in range(3) for verdict in detector.tick([_flood(NOW + 60 * n)], NOW + 60 * n)]
    assert [(one.bot_id, one.user_id, one.level) for one in found] == [(1, 42, Level.WATCH), (1, 42, Level.BLOCK)]
    assert found[-1].seconds == 900
    assert detector.score(1, NOW + 120) == 0


def test_users_are_judged_apart() -> None:
    detector = Detector(Tuning(soft=Mode.ENFORCE))
    found = detector.tick([_flood(NOW, user_id) for user_id in (1, 2, 3)], NOW)
    assert [(one.user_id, one.level) for one in found] == [(n, Level.WATCH) for n in (1, 2, 3)]


def test_in_shadow_a_user_is_told_of_and_nothing_is_done() -> None:
    detector = Detector()
    found = [verdict for n in range(3) for verdict in detector.tick([_flood(NOW + 60 * n)], NOW + 60 * n)]
    assert [(one.level, one.would) for one in found] == [(Level.NONE, Level.WATCH), (Level.NONE, Level.BLOCK)]


def test_what_is_nobodys_doing_is_told_and_never_performed() -> None:
    detector = Detector(Tuning(soft=Mode.ENFORCE))
    seen = [CanaryReadable(at=NOW, what="x"), FailedLogins(at=NOW, tried=7, address="", count=1000)]
    (told,) = detector.tick(seen, NOW)
    assert (told.bot_id, told.level, told.would, told.seconds) == (0, Level.WATCH, Level.QUARANTINE, 0)
