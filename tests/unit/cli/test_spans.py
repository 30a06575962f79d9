"""What --since, --until and --from say."""

from __future__ import annotations

import pytest

from botctl.cli.audit import span
from botctl.cli.events import replay_span
from botctl.errors import UsageError

NOW = 10_000.0


def test_a_span_is_in_seconds_and_may_be_open() -> None:
    assert span("2h", "1h", NOW) == (2_800.0, 6_400.0)
    assert span(None, "1h", NOW) == (None, 6_400.0)
    assert span("1h", None, NOW) == (6_400.0, None)


@pytest.mark.parametrize("since", ["1h", "1970-01-01T02:00:00+00:00"])
def test_a_span_that_is_upside_down_is_refused(since: str) -> None:
    with pytest.raises(UsageError, match=r"^--since .* is later than --until 2h$"):
        span(since, "2h", NOW)


def test_a_replay_begins_with_an_entry_or_with_all() -> None:
    assert replay_span(None, "5-0", "9-1", NOW) == {"first": "5-0", "last": "9-1", "since": None, "until": None}
    assert replay_span(None, "0", "1h", NOW) == {"since": None, "until": 6_400.0}
    assert replay_span("2h", None, None, NOW) == {"since": 2_800.0, "until": None}


@pytest.mark.parametrize("first", ["99-xx", "99", "", "-1", "9" * 21 + "-0"])
def test_what_is_no_entry_is_named_by_its_option(first: str) -> None:
    with pytest.raises(UsageError, match=r"^--from .* is no entry$"):
        replay_span(None, first, None, NOW)
    with pytest.raises(UsageError, match="later than"):
        replay_span("1h", None, "2h", NOW)
