from __future__ import annotations

from botctl.bot.live_limits import LiveLimits


def test_only_what_is_a_limit_and_has_changed_is_taken_over():
    limits = LiveLimits(concurrent_chats=32, attempts=5)
    assert limits.adjust({"log_level": "DEBUG", "concurrent_chats": 32, "attempts": 2}) == {"attempts": 2}
    assert (limits.concurrent_chats, limits.attempts) == (32, 2)


def test_a_limit_that_makes_no_sense_is_not_taken_over():
    limits = LiveLimits(concurrent_chats=32, attempts=5)
    assert limits.adjust({"concurrent_chats": 0, "attempts": "many"}) == {}
    assert (limits.concurrent_chats, limits.attempts) == (32, 5)
