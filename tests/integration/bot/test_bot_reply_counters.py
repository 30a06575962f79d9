"""The counters that rolling restarts judge by: a user's update got its answer, or not."""

from __future__ import annotations

from typing import Any


def counts(handled: int, failures: int) -> Any:
    def fits(beat: Any) -> bool:
        return (beat.counters["handled"], beat.counters["handler_failures"]) == (handled, failures)

    return fits


async def test_an_update_counts_as_handled_or_once_as_failed_however_often_it_is_tried(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 3})
    await bot.ready()
    await bot.say("hello")
    await bot.say("boom", chat=101)
    await bot.heartbeat(lambda beat: beat.counters["dead_letters"] == 1)
    await bot.heartbeat(counts(1, 1))


async def test_an_apology_is_no_answer(bot: Any) -> None:
    bot.start(assistant={"retries": 0, "apology": "Sorry!"})
    await bot.ready()
    await bot.completion.inject_fault("*", status=500)
    await bot.say("hello")
    await bot.answers(1)
    await bot.heartbeat(counts(0, 1))
    await bot.say("hello again")
    await bot.answers(2)
    await bot.heartbeat(counts(1, 1))


async def test_those_who_may_not_talk_to_the_bot_count_as_neither(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo", access={"deny": [100], "refusal": "No."})
    await bot.ready()
    await bot.say("hello", chat=100)
    await bot.answers(1)
    await bot.say("hello", chat=101)
    await bot.heartbeat(counts(1, 0))
