"""kill -9 at every step of an answer: nothing is lost, and only the uncertain gap may repeat, and is counted."""

from __future__ import annotations

from typing import Any

import pytest
from bot_waiting import completion_of, until

from botctl.runtime import messages


async def calls_of(bot: Any, method: str, number: int) -> None:
    async def made() -> bool:
        calls = await bot.telegram.calls(method=method, bot_id=bot.bot_id)
        return len(calls) >= number

    await until(made, f"{number} calls of {method}")


async def state_of(bot: Any, n: int, state: str) -> None:
    async def is_so() -> bool:
        return bool(await bot.value("SELECT state = $1 FROM sends WHERE bot_id = {bot} AND n = $2", state, n))

    await until(is_so, f"send {n} is {state}")


async def completion_asked(bot: Any) -> None:
    async def asked() -> bool:
        return any(
            "completion" in call["method"] or "responses" in call["method"] for call in await bot.completion.calls()
        )

    await until(asked)


async def test_killed_while_the_model_thinks_the_update_is_answered_once(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    for _ in range(6):  # more often than an update has attempts: waiting for a model is nobody's fault
        await bot.completion.inject_fault("*", hang=True)
        if not await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot}"):
            await bot.say("My name is Ada.")
        await calls_of(bot, "sendChatAction", 1)

        async def waits() -> bool:
            return await bot.value("SELECT attempts FROM inbox WHERE bot_id = {bot}") == 0

        await until(waits)
        bot.kill()
        await bot.completion.clear_faults()
        bot.start()
        await bot.ready()
    heard = await bot.answers(1)
    await bot.settled(1)
    assert len(heard) == 1
    assert await bot.value("SELECT count(*) FROM messages WHERE bot_id = {bot} AND direction = 'in'") == 1


async def test_killed_before_telegram_has_the_answer_it_is_sent_and_counted_as_uncertain(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, hang=True, when="before")
    await bot.say("hello")
    await calls_of(bot, "sendMessage", 1)
    await state_of(bot, 0, "sending")
    bot.kill()
    bot.start()
    await bot.ready()
    heard = await bot.answers(1)
    await bot.settled(1)
    assert len(heard) == 1
    assert await bot.value("SELECT uncertain FROM sends WHERE bot_id = {bot}") == 1
    assert await bot.value("SELECT count(*) FROM completions WHERE bot_id = {bot}") == 1


@pytest.mark.parametrize(("on_uncertain", "times"), [("resend", 2), ("skip", 1)])
async def test_killed_after_telegram_has_the_answer_on_uncertain_decides(
    bot: Any, on_uncertain: str, times: int
) -> None:
    bot.start(assistant={}, on_uncertain=on_uncertain)
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, hang=True, when="after")
    await bot.say("hello")
    await bot.answers(1)
    await state_of(bot, 0, "sending")
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.settled(1)
    assert len(await bot.heard()) == times
    row = (await bot.rows("SELECT state, uncertain FROM sends WHERE bot_id = {bot}"))[0]
    assert (row["state"], row["uncertain"]) == ("sent" if on_uncertain == "resend" else "skipped", 1)


async def test_parts_that_were_only_planned_are_sent_once_and_in_order(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.completion.inject_fault("*", status=200, body=completion_of("one " * 2500))
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, skip=1, hang=True, when="before")
    await bot.say("tell me a lot")
    await calls_of(bot, "sendMessage", 2)
    await state_of(bot, 1, "sending")
    states = await bot.rows("SELECT state FROM sends WHERE bot_id = {bot} ORDER BY n")
    assert [row[0] for row in states] == ["sent", "sending", "planned"]
    bot.kill()
    await bot.say("/start")  # comes after what was left over
    bot.start()
    await bot.ready()
    heard = await bot.answers(4)
    await bot.settled(2)
    assert len(heard) == 4
    assert heard[3].startswith("Hello")
    assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 1
    assert await bot.value("SELECT count(*) FROM completions WHERE bot_id = {bot}") == 1


async def test_a_replayed_handler_gets_its_earlier_sends_from_the_journal(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:thrice")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, skip=2, hang=True, when="before")
    await bot.say("x")
    await calls_of(bot, "sendMessage", 3)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.settled(1)
    assert await bot.heard() == ["0 x", "1 x", "2 x"]
    states = await bot.rows("SELECT state, uncertain FROM sends WHERE bot_id = {bot} ORDER BY n")
    assert [tuple(row) for row in states] == [("sent", 0), ("sent", 0), ("sent", 1)]


async def test_skip_applies_to_handlers_too_and_the_update_is_done(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo", on_uncertain="skip")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, hang=True, when="after")
    await bot.say("x")
    await bot.answers(1)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.settled(1)
    assert await bot.heard() == ["echo x"]
    assert await bot.value("SELECT state FROM inbox WHERE bot_id = {bot}") == "done"


async def test_a_lost_answer_of_telegram_is_uncertain_without_a_crash(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, cut=True, when="after")
    await bot.say("x")
    await bot.settled(1)
    assert await bot.heard() == ["echo x", "echo x"]
    assert await bot.value("SELECT uncertain FROM sends WHERE bot_id = {bot}") == 1
    await bot.heartbeat(lambda beat: beat.counters["sends_uncertain"] == 1)


async def test_a_divergence_is_counted_and_never_answered_from_the_journal(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:diverging")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, skip=1, hang=True, when="before")
    await bot.say("x")
    await calls_of(bot, "sendMessage", 2)
    bot.kill()
    bot.start(previous_failure="crash")
    await bot.ready()
    await bot.heartbeat(lambda beat: beat.counters["divergences"] == 1)
    await bot.settled(1)
    rows = await bot.rows("SELECT n, method, state FROM sends WHERE bot_id = {bot} ORDER BY n")
    assert [tuple(row) for row in rows] == [
        (0, "sendMessage", "sent"),
        (1, "sendMessage", "skipped"),
        (2, "sendMessage", "sent"),
        (3, "sendMessage", "sent"),
    ]
    assert await bot.heard(101) == ["elsewhere"]
    assert await bot.heard(100) == ["first", "second"]


@pytest.mark.parametrize(("way", "code"), [("die", -9), ("exit", 1)])
async def test_an_update_that_ends_the_process_becomes_a_dead_letter(bot: Any, way: str, code: int) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(100, way), (100, "after")])
    for _ in range(2):
        assert await bot.ended() == code
        bot.start(previous_failure="crash")
    await bot.ready()
    assert await bot.answers(1) == ["echo after"]
    assert [one.updates for one in bot.receive() if isinstance(one, messages.GaveUp)] == [1]
    await bot.settled(2)
    row = (await bot.rows("SELECT state, attempts, last_error FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id"))[0]
    assert (row["state"], row["attempts"]) == ("dead", 2)
    assert "process ended" in row["last_error"]


async def test_an_update_that_kills_the_process_takes_no_other_chats_updates_with_it(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    others = range(101, 107)
    await bot.telegram.say_many(bot.bot_id, [*((chat, "slow") for chat in others), (100, "die")])
    for _ in range(3):  # once with the others, then alone as often as it has attempts
        assert await bot.ended() == -9
        bot.start(previous_failure="crash")
    await bot.ready()
    for chat in others:
        assert await bot.answers(1, chat) == ["echo slow"]
    await bot.settled(7)
    rows = await bot.rows("SELECT lane, state FROM inbox WHERE bot_id = {bot} AND state <> 'done'")
    assert [tuple(row) for row in rows] == [("chat:100", "dead")]


async def test_an_update_during_which_the_process_is_always_killed_becomes_a_dead_letter(bot: Any) -> None:
    """As when it takes all memory: the kernel's KILL looks like anybody's."""
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(100, "die"), (100, "after")])
    for _ in range(5 + 2):  # as often as may be chance, then alone as often as it has attempts
        assert await bot.ended() == -9
        bot.start(previous_failure="signal")
    await bot.ready()
    assert await bot.answers(1) == ["echo after"]
    await bot.settled(2)
    rows = await bot.rows("SELECT state FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id")
    assert [row["state"] for row in rows] == ["dead", "done"]


async def test_who_is_found_guilty_stays_so_when_the_process_is_killed_at_once(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    await bot.say("die")
    for _ in range(2):
        assert await bot.ended() == -9
        bot.start(previous_failure="crash")

    async def condemned() -> bool:
        sql = "SELECT count(*) FROM inbox WHERE bot_id = {bot} AND (last_error LIKE '%, guilty' OR state = 'dead')"
        return bool(await bot.value(sql))

    await until(condemned)
    bot.kill()
    bot.start(previous_failure="signal")
    await bot.ready()
    await bot.settled(1)
    assert await bot.value("SELECT state FROM inbox WHERE bot_id = {bot}") == "dead"


async def test_secrets_in_an_exception_are_not_stored_and_not_published(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:leaky", limits={"attempts": 1})
    await bot.ready()
    await bot.say("x")
    await bot.settled(1)
    stored = await bot.value("SELECT last_error FROM inbox WHERE bot_id = {bot}")
    event = await bot.value("SELECT max(data::text) FROM outbox WHERE bot_id = {bot} AND type = 'handler.failed'")
    for text in (stored, event):
        assert "leaked" in text
        assert bot.token.split(":")[1] not in text


async def test_kills_from_outside_never_make_a_dead_letter(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    await bot.say("slow")
    for _ in range(5 + 2):  # at which one that has itself killed is given up; while it rests it is killed as well

        async def begun_or_resting() -> bool:
            sql = "SELECT count(*) FROM inbox WHERE bot_id = {bot} AND (attempts = 1 OR last_error LIKE '%kills 5%')"
            return bool(await bot.value(sql))

        await until(begun_or_resting)
        bot.kill()
        bot.start(previous_failure="signal")
        await bot.ready()
    assert await bot.answers(1) == ["echo slow"]
    await bot.settled(1)


async def test_a_second_poison_stays_alone_while_the_first_is_found_out(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison")
    await bot.ready()
    others = range(102, 106)
    await bot.telegram.say_many(
        bot.bot_id, [*((chat, "slow") for chat in others), (100, "die when two"), (101, "die when two")]
    )
    for _ in range(5):  # once together, then each alone twice; at a sixth the bot would be quarantined
        assert await bot.ended() == -9
        bot.start(previous_failure="crash")
    await bot.ready()
    for chat in others:
        assert await bot.answers(1, chat) == ["echo slow"]
    await bot.settled(6)
    rows = await bot.rows("SELECT lane, state FROM inbox WHERE bot_id = {bot} AND state <> 'done' ORDER BY lane")
    assert [tuple(row) for row in rows] == [("chat:100", "dead"), ("chat:101", "dead")]
    assert not await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND last_error LIKE 'suspected%'")


async def test_an_update_that_keeps_failing_becomes_a_dead_letter_and_the_lane_goes_on(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(100, "boom"), (100, "after")])
    assert await bot.answers(1) == ["echo after"]
    await bot.settled(2)
    row = (await bot.rows("SELECT state, attempts, last_error FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id"))[0]
    assert (row["state"], row["attempts"], row["last_error"]) == ("dead", 2, "ValueError: this update is poison")
    await bot.heartbeat(lambda beat: beat.counters["dead_letters"] == 1)


async def test_a_handler_that_is_cancelled_has_failed_like_any_other(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:poison", limits={"attempts": 2})
    await bot.ready()
    ways = ["cancelled", "cancels itself", "cancels itself and returns"]
    await bot.telegram.say_many(
        bot.bot_id, [(100 + number, text) for number, way in enumerate(ways) for text in (way, "after")]
    )
    for number in range(len(ways)):
        assert await bot.answers(1, 100 + number) == ["echo after"]
    await bot.settled(2 * len(ways))
    for number in range(len(ways)):
        row, after = await bot.rows(
            f"SELECT state, attempts, last_error FROM inbox WHERE bot_id = {{bot}} AND lane = 'chat:{100 + number}'"
            " ORDER BY inbox_id"
        )
        assert (row["state"], row["attempts"], after["state"]) == ("dead", 2, "done"), ways[number]
        assert row["last_error"].startswith("HandlerCancelledError: "), ways[number]
    told = {str(row["outcome"]) for row in await bot.rows("SELECT outcome FROM attempts WHERE bot_id = {bot}")}
    assert told <= {"failed", "given up"}


async def test_random_kills_under_load_lose_nothing(bot: Any) -> None:
    import asyncio
    import random

    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    chats, each = 8, 25
    chance = random.Random(7)
    for number in range(each):
        await bot.telegram.say_many(bot.bot_id, [(chat, f"{number}") for chat in range(1, chats + 1)])
        if number % 4 == 3:
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            bot.kill()
            bot.start()
    await bot.ready()
    await bot.settled(chats * each)
    uncertain = await bot.value("SELECT coalesce(sum(uncertain), 0) FROM sends WHERE bot_id = {bot}")
    total = 0
    for chat in range(1, chats + 1):
        heard = await bot.heard(chat)
        total += len(heard)
        distinct = list(dict.fromkeys(heard))
        assert distinct == [f"echo {number}" for number in range(each)]
    assert total - chats * each <= uncertain
    assert await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND state = 'done'") == chats * each
