"""Jobs and operators' sends: kept in the database, handled as updates are."""

from __future__ import annotations

import json
from typing import Any

from bot_waiting import until

from botctl.runtime import messages


async def test_a_job_runs_once_with_its_data_in_the_lane_of_its_chat(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers")
    await bot.ready()
    await bot.say("once")
    assert await bot.answers(2) == ["remind:me now", "that was all"]
    await bot.settled(2)
    row = (await bot.rows("SELECT cause, kind, lane, trace_id FROM inbox WHERE bot_id = {bot} AND kind = 'job'"))[0]
    assert row["cause"].startswith("job:remind:me:1")
    assert (row["kind"], row["lane"]) == ("job", "chat:100")
    assert row["trace_id"] == await bot.value("SELECT trace_id FROM inbox WHERE bot_id = {bot} AND kind = 'message'")
    causes = await bot.rows("SELECT DISTINCT cause FROM sends WHERE bot_id = {bot}")
    assert [one[0] for one in causes] == [row["cause"]]
    assert await bot.value("SELECT state FROM jobs WHERE bot_id = {bot}") == "done"


async def test_a_job_due_while_the_bot_is_down_runs_once_and_late_then_goes_on(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers")
    await bot.ready()
    await bot.say("often")
    await bot.answers(1)
    bot.kill()
    await bot.rows("UPDATE jobs SET due_at = due_at - interval '1 hour' WHERE bot_id = {bot}")
    bot.start()
    await bot.ready()

    async def is_late() -> bool:
        heard = await bot.heard()
        return "tick late" in heard and heard[-1] == "tick in time"

    await until(is_late)
    assert (await bot.heard()).count("tick late") == 1
    await bot.say("stop")

    async def is_stopped() -> bool:
        return bool(await bot.value("SELECT state = 'cancelled' FROM jobs WHERE bot_id = {bot}"))

    await until(is_stopped)
    before = len(await bot.heard())
    await bot.say("list")
    assert "none" in await bot.answers(before + 1)


async def test_a_repeated_job_goes_on_when_a_clock_that_was_ahead_is_set_back(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers")
    await bot.ready()
    await bot.say("often")
    await bot.answers(1)
    bot.kill()
    await bot.rows(
        "UPDATE jobs SET due_at = due_at + interval '30 d', set_at = set_at + interval '30 d' WHERE bot_id = {bot}"
    )
    bot.start()
    await bot.ready()

    async def is_back() -> bool:
        return bool(await bot.value("SELECT due_at < now() + interval '1 h' FROM jobs WHERE bot_id = {bot}"))

    await until(is_back)
    await bot.answers(len(await bot.heard()) + 1)


async def test_a_job_that_is_set_again_for_a_time_at_which_it_ran_is_told_and_not_run_again(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers")
    await bot.ready()
    await bot.say("once")
    await bot.answers(2)
    await bot.settled(2)
    bot.kill()
    await bot.rows("UPDATE jobs SET state = 'waiting' WHERE bot_id = {bot}")
    bot.start()
    await bot.ready()

    async def done() -> bool:
        return bool(await bot.value("SELECT state = 'done' FROM jobs WHERE bot_id = {bot}"))

    await until(done)
    assert "has run for this very time already" in bot.output()
    assert len(await bot.heard()) == 2


async def test_a_job_is_planned_with_the_commit_of_its_handling_or_not_at_all(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers", limits={"attempts": 1})
    await bot.ready()
    await bot.say("fail")
    await bot.settled(1)
    assert await bot.value("SELECT count(*) FROM jobs WHERE bot_id = {bot}") == 0


async def test_a_job_killed_in_the_middle_goes_on_where_it_was(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, skip=1, hang=True, when="before")
    await bot.say("once")
    await bot.answers(1)

    async def hangs() -> bool:
        return len(await bot.telegram.calls(method="sendMessage", bot_id=bot.bot_id)) == 2

    await until(hangs)
    bot.kill()
    bot.start()
    await bot.ready()
    assert await bot.answers(2) == ["remind:me now", "that was all"]
    await bot.settled(2)
    assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 1


async def test_a_job_without_a_callback_is_a_dead_letter(bot: Any) -> None:
    bot.start(handlers="handlers_for_sends:timers", limits={"attempts": 1})
    await bot.ready()
    await bot.say("unknown")
    await bot.settled(2)
    assert await bot.value("SELECT state FROM inbox WHERE bot_id = {bot} AND kind = 'job'") == "dead"


async def test_an_operators_send_is_delivered_like_an_answer_and_kept(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()

    async def operate(number: int, method: str, **parameters: Any) -> None:
        payload = json.dumps({"method": method, "parameters": {"chat_id": 100, **parameters}})
        await bot.rows(
            "INSERT INTO inbox (bot_id, cause, kind, lane, payload, trace_id)"
            " VALUES ({bot}, $1, 'operation', 'chat:100', $2, 'trace')",
            f"op:{number}",
            payload,
        )

    await operate(1, "sendMessage", text="from the operator")
    await operate(2, "getChat")
    bot.send(messages.Wake())
    assert await bot.answers(1) == ["from the operator"]
    await bot.settled(2)
    states = await bot.rows("SELECT state FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id")
    assert [row[0] for row in states] == ["done", "dead"]
    row = (await bot.rows("SELECT cause, mode, state, trace_id FROM sends WHERE bot_id = {bot}"))[0]
    assert tuple(row) == ("op:1", "deferred", "sent", "trace")
    kept = (await bot.rows("SELECT role, text, telegram_message_id FROM messages WHERE bot_id = {bot}"))[0]
    assert (kept["role"], kept["text"]) == ("handler", "from the operator")
    assert kept["telegram_message_id"] is not None


async def test_nothing_is_called_for_a_chat_that_is_known_to_be_unreachable(bot: Any) -> None:
    await bot.rows("INSERT INTO chat_states (bot_id, chat_id, unreachable) VALUES ({bot}, 100, 'blocked')")
    payload = json.dumps({"method": "sendMessage", "parameters": {"chat_id": 100, "text": "are you there?"}})
    await bot.rows(
        "INSERT INTO inbox (bot_id, cause, kind, lane, payload) VALUES ({bot}, 'op:1', 'operation', 'chat:100', $1)",
        payload,
    )
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.settled(1)
    row = (await bot.rows("SELECT state, error, uncertain FROM sends WHERE bot_id = {bot}"))[0]
    assert (row["state"], row["error"], row["uncertain"]) == (
        "failed",
        "Forbidden: the chat is unreachable: blocked",
        0,
    )
    assert await bot.telegram.calls(method="sendMessage", bot_id=bot.bot_id) == []
