"""Jobs: when they are due, what is refused, and the inbox row that is made of one."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, time, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.bot.jobs.rules import next_daily, next_due, planned, pulled_back, read_job, row_of, settled
from botctl.storage.jobs import StoredJob

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ({"after": 5}, NOW + 5),
        ({"after": timedelta(minutes=1)}, NOW + 60),
        ({"after": -5}, NOW),
        ({"at": datetime(2026, 3, 29, tzinfo=UTC)}, at("2026-03-29T00:00+00:00")),
        ({"every": 90}, NOW + 90),
        ({"every": 90, "after": 0}, NOW),
        ({"daily_at": "11:00"}, at("2026-03-29T11:00+00:00")),
        ({"daily_at": time(13, 30)}, at("2026-03-28T13:30+00:00")),
        ({"daily_at": "08:00", "timezone": "America/New_York"}, at("2026-03-29T12:00+00:00")),
    ],
)
def test_the_first_time_of_a_job(asked: dict[str, Any], due: float) -> None:
    assert planned("report", NOW, **asked).due_at == due


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("report", {}),
        ("report", {"after": 1, "at": datetime(2026, 3, 29, tzinfo=UTC)}),
        ("report", {"at": datetime(2026, 3, 29)}),
        ("report", {"every": 0.5}),
        ("report", {"every": 60, "daily_at": "12:00"}),
        ("report", {"daily_at": "25:00"}),
        ("report", {"daily_at": "12:00", "timezone": "Nowhere/Land"}),
        ("report", {"daily_at": time(12, tzinfo=UTC)}),
        ("report", {"after": 1e12}),
        ("report", {"after": 1, "data": {"x": object()}}),
        ("two words", {"after": 1}),
        ("report:", {"after": 1}),
        ("", {"after": 1}),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 – each says something else
        planned(name, NOW, **asked)


@given(st.floats(1, 1e6), st.floats(0, 1e7))
def test_missed_times_are_one_late_run_and_the_beat_is_kept(every: float, down: float) -> None:
    job = StoredJob("tick", NOW, every=every)
    following = next_due(job, NOW + down)
    assert following is not None
    assert NOW + down - 0.01 < following <= NOW + down + every + 0.01
    beats = (following - NOW) / every
    assert abs(beats - round(beats)) * every < 0.01


@pytest.mark.parametrize("fired", [True, False])
def test_a_clock_that_is_set_back_takes_repeated_jobs_along(fired: bool) -> None:
    ahead = NOW + 86400 * 30
    job = StoredJob("tick", ahead, every=60.0) if fired else planned("tick", ahead - 60, every=60)
    following = next_due(job, ahead) if fired else job.due_at
    assert following is not None
    job = dataclasses.replace(job, due_at=following, set_at=ahead)
    assert pulled_back(job, NOW) == NOW + 60
    assert pulled_back(job, ahead) is None
    daily = StoredJob("report", next_daily("07:30:00", "UTC", ahead), daily_at="07:30:00", set_at=ahead)
    assert pulled_back(daily, NOW) == next_daily("07:30:00", "UTC", NOW)
    assert pulled_back(daily, ahead) is None


def test_a_first_time_that_was_asked_for_stays_when_the_clock_is_set_back() -> None:
    first = datetime.fromtimestamp(NOW + 86400 * 90, UTC)
    assert pulled_back(planned("tick", NOW + 1000, at=first, every=60), NOW) is None
    assert pulled_back(planned("once", NOW + 1000, at=first), NOW) is None


def test_a_single_job_has_no_next_time() -> None:
    assert next_due(StoredJob("once", NOW), NOW + 5) is None


@pytest.mark.parametrize(
    ("after", "due"),
    [
        ("2026-03-28T02:00+01:00", "2026-03-28T02:30+01:00"),
        ("2026-03-28T03:00+01:00", "2026-03-29T03:30+02:00"),  # 02:30 does not exist that day
        ("2026-03-29T04:00+02:00", "2026-03-30T02:30+02:00"),
        ("2026-10-25T00:00+02:00", "2026-10-25T02:30+02:00"),  # the first of two
        ("2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
    ],
)
def test_daily_times_follow_the_clock_on_the_wall(after: str, due: str) -> None:
    assert next_daily("02:30:00", "Europe/Berlin", at(after)) == at(due)


def test_the_row_of_a_job() -> None:
    job = StoredJob("remind:7", NOW, chat_id=-5, data={"word": "ab"}, trace_id="trace")
    row = row_of(job, "new")
    assert row.cause == f"job:remind:7:{round(NOW * 1000)}"
    assert (row.kind, row.lane, row.trace_id, row.dead) == ("job", "chat:-5", "trace", None)
    read = read_job(row.payload, NOW + 3)
    assert (read.name, read.chat_id, read.late) == ("remind:7", -5, 3.0)
    assert read.data == {"word": "ab"}
    assert planned("report", NOW, after=1, data={"word": "a\x00b"}).data == {"word": "a\ufffdb"}
    repeated = row_of(StoredJob("tick", NOW, every=5, trace_id="trace"), "new")
    assert (repeated.lane, repeated.trace_id) == ("job:tick", "new")
    assert row_of(StoredJob("tick", NOW, fault="can't be opened: no key"), "new").dead == "can't be opened: no key"
    with pytest.raises((msgspec.DecodeError, KeyError)):
        read_job("{}", NOW)


def test_a_job_whose_next_time_nobody_can_tell_is_a_dead_letter() -> None:
    lost, following = settled(StoredJob("tick", NOW, daily_at="07:00:00", timezone="Mars/Phobos"), NOW)
    assert following is None
    assert row_of(lost, "new").dead == "it has no next time: 'Mars/Phobos' is no time zone, such as Europe/Berlin"
    fine = StoredJob("tick", NOW, every=5)
    assert settled(fine, NOW) == (fine, NOW + 5)


@pytest.mark.parametrize("wrong", [{"after": float("nan")}, {"after": 1, "chat_id": 2**63}])
def test_what_no_table_takes_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"due in more|no chat"):
        planned("tick", NOW, **wrong)
    with pytest.raises(ValueError, match="no name"):
        planned("tick:\ud800", NOW, after=1)
