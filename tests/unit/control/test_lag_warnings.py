"""Who is told of before anything is lost: late readers of logs, crowded mailboxes, nobody else."""

from __future__ import annotations

from botctl.bus.reading.lag import Lag
from botctl.control.bus.lag_watch import lag_warnings

DAY = 86_400.0


def told(*lags: Lag) -> list[str]:
    return lag_warnings(lags, 7 * DAY, 10_000)


def test_a_reader_of_a_log_is_told_of_when_most_of_the_time_is_over() -> None:
    assert told(Lag("grant:crm", "bot", "s", 5, 1, 5.5 * DAY)) == []
    (early,) = told(Lag("grant:crm", "bot", "s", 5, 1, 5.7 * DAY))
    assert early.startswith("grant:crm has not read 6 events of the log bot for 5.7 days; events are kept for 7.0 days")
    (late,) = told(Lag("grant:crm", "bot", "s", 5, 1, 8 * DAY))
    assert late.endswith("they are kept only as long as there is room")


def test_a_mailbox_knows_no_age_but_a_number() -> None:
    assert told(Lag("bot:a", "", "s", 5_000, 0, 30 * DAY)) == []
    (full,) = told(Lag("bot:a", "", "s", 5_000, 1, 1.0))
    assert full == "bot:a has 5001 events in its mailbox; beyond 10000 the oldest go"
