"""Handlers and rows that are not as they should be: the harm is theirs alone."""

from __future__ import annotations

from typing import Any

from bot_waiting import until


async def test_a_call_from_another_event_loop_fails_alone(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:other_loops", limits={"attempts": 2})
    await bot.ready()
    for number in range(12):
        await bot.say("thread" if number % 3 == 0 else f"{number}", 100 + number)
    await bot.settled(12)
    rows = await bot.rows("SELECT lane, state FROM inbox WHERE bot_id = {bot}")
    states = {int(lane.removeprefix("chat:")): state for lane, state in rows}
    assert states == {100 + number: "dead" if number % 3 == 0 else "done" for number in range(12)}
    error = str(await bot.value("SELECT last_error FROM inbox WHERE bot_id = {bot} AND state = 'dead' LIMIT 1"))
    assert "event loop" in error
    for number in range(12):
        if number % 3:
            assert await bot.heard(100 + number) == [f"echo {number}"]


async def test_a_handlers_text_with_a_nul_goes_out(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:odd_texts", limits={"attempts": 1})
    await bot.ready()
    await bot.say("go")
    await bot.settled(1)
    assert await bot.value("SELECT state FROM inbox WHERE bot_id = {bot}") == "done"
    assert len(await bot.heard()) == 1
    assert await bot.value("SELECT state FROM sends WHERE bot_id = {bot}") == "sent"


async def test_half_a_character_is_surely_not_sent(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:odd_texts", limits={"attempts": 2})
    await bot.ready()
    await bot.say("half")

    async def is_dead() -> bool:
        return bool(await bot.value("SELECT state = 'dead' FROM inbox WHERE bot_id = {bot}"))

    await until(is_dead)
    assert await bot.heard() == []
    assert [tuple(row) for row in await bot.rows("SELECT state, uncertain FROM sends WHERE bot_id = {bot}")] == [
        ("failed", 0)
    ]


async def test_a_job_whose_time_can_not_be_told_holds_up_no_other(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:late_jobs")
    await bot.ready()
    await bot.rows(
        "INSERT INTO jobs (bot_id, name, state, due_at, daily_at, timezone)"
        " VALUES ({bot}, 'gone', 'waiting', now() - interval '1 day', '07:00:00', 'Mars/Phobos')"
    )
    await bot.say("go")
    assert await bot.answers(1) == ["tick"]

    async def is_told() -> bool:
        return await bot.value("SELECT state FROM inbox WHERE bot_id = {bot} AND lane = 'job:gone'") == "dead"

    await until(is_told)
    assert await bot.value("SELECT state FROM jobs WHERE bot_id = {bot} AND name = 'gone'") == "done"


async def test_words_of_an_error_that_no_table_takes_are_kept_without_them(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:odd_texts", limits={"attempts": 1})
    await bot.ready()
    await bot.say("raise")
    await bot.settled(1)
    assert await bot.value("SELECT last_error FROM inbox WHERE bot_id = {bot} AND state = 'dead'") == (
        "ValueError: \ufffd and \ufffd"
    )


async def test_a_job_whose_send_may_have_arrived_counts_as_done_with_skip(bot: Any) -> None:
    bot.start(handlers="handlers_for_misuse:late_jobs", on_uncertain="skip")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, cut=True, when="after")
    await bot.say("go")

    async def states() -> bool:
        rows = await bot.rows("SELECT kind, state FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id")
        return [tuple(row) for row in rows] == [("message", "done"), ("job", "done")]

    await until(states, "the job is done")
    sends = await bot.rows("SELECT state, uncertain FROM sends WHERE bot_id = {bot}")
    assert [tuple(row) for row in sends] == [("skipped", 1)]
