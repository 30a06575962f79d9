"""What a bot needs is away, wrong or slow: it waits, tells, and loses nothing."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import asyncpg
import pytest
from bot_waiting import until

from botctl.runtime import messages
from botctl.storage.engine import parse_database_url


@pytest.fixture
def own_database(new_postgres: Any) -> Any:
    from dataclasses import dataclass

    from botctl.storage import scram
    from botctl.storage.bootstrap import prepare
    from botctl.storage.engine import connect

    @dataclass
    class Own:
        admin_url: str
        control: Any

        @property
        def target(self) -> Any:
            return parse_database_url(self.admin_url).target

        async def add_bot(self, bot_id: int) -> Any:
            from botctl.handover import DatabaseLogin

            password = scram.new_password()
            connection = await connect(self.control)
            await connection.execute("SELECT botctl_admin.ensure_bot($1, 6)", bot_id)
            await connection.execute(
                "SELECT botctl_admin.set_bot_password($1, $2)", bot_id, scram.random_verifier(password)
            )
            await connection.close()
            return DatabaseLogin(target=self.target, user=f"bot_{bot_id}", password=password)

    async def make() -> Own:
        return Own(new_postgres.admin_url, (await prepare(new_postgres.admin_url)).control)

    return make


async def test_a_killed_database_pauses_the_bot_and_nothing_is_lost(
    new_bot: Any, own_database: Any, new_postgres: Any
) -> None:
    bot = await new_bot(await own_database())
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("one")
    await bot.answers(1)
    new_postgres.server.stop(signal.SIGKILL)
    await bot.say("two")
    await bot.heartbeat(lambda beat: beat.health is messages.Health.PAUSED and beat.reason == "the database is away")
    assert await bot.heard() == ["echo one"]
    new_postgres.start_again()
    assert await bot.answers(2) == ["echo one", "echo two"]
    await bot.heartbeat(lambda beat: beat.health is messages.Health.OK)
    await bot.settled(2)


async def test_a_read_only_database_pauses_the_bot(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.rows("ALTER ROLE bot_{bot} SET default_transaction_read_only = on")
    await bot.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bot_{bot}'")
    await bot.say("hello")
    await bot.heartbeat(lambda beat: beat.health is messages.Health.PAUSED and beat.reason == "the database is away")
    await bot.rows("ALTER ROLE bot_{bot} RESET default_transaction_read_only")
    assert await bot.answers(1) == ["echo hello"]
    await bot.heartbeat(lambda beat: beat.health is messages.Health.OK)


async def test_handlers_that_answer_inside_their_transactions_do_not_block_the_bot(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:holding")
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(100, "one"), (101, "two")])
    assert await bot.answers(1, 100) == ["echo one"]
    assert await bot.answers(1, 101) == ["echo two"]
    await bot.settled(2)


async def test_terminated_connections_in_mid_answer_cost_nothing(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:thrice")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, delay=0.05, times=None)
    await bot.telegram.say_many(bot.bot_id, [(100, str(number)) for number in range(10)])
    for _ in range(8):
        await bot.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bot_{bot}'")
        await asyncio.sleep(0.1)
    await bot.settled(10)
    assert await bot.heard() == [f"{n} {number}" for number in range(10) for n in range(3)]


async def test_a_bot_is_ready_though_the_database_is_away(bot: Any) -> None:
    target, bot.config["database"] = bot.config["database"], type(bot.config["database"])(host="127.0.0.1", port=1)
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("hello")
    await bot.heartbeat(lambda beat: beat.health is messages.Health.PAUSED)
    bot.kill()
    bot.config["database"] = target
    bot.start()
    assert await bot.answers(1) == ["echo hello"]


async def test_without_redis_the_bot_works_on_and_events_follow_later(bot: Any, published: Any) -> None:
    password = bot.credentials.redis
    bot.credentials = messages.Credentials(generation=1, database=bot.credentials.database, redis="wrong-password")
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("hello")
    assert await bot.answers(1) == ["echo hello"]
    beat = await bot.heartbeat(lambda beat: beat.health is messages.Health.DEGRADED)
    assert beat.reason.startswith("redis refuses the login")
    await bot.heartbeat(lambda beat: beat.gauges["outbox_depth"] >= 2)
    bot.credentials = messages.Credentials(generation=2, database=bot.credentials.database, redis=password)
    bot.send(messages.Rotate(credentials=bot.credentials))

    async def flows() -> bool:
        return "message.sent" in [event.type for event in await published(bot)]

    await until(flows)
    assert any(isinstance(one, messages.Rotated) and one.generation == 2 for one in bot.receive())


async def test_a_rotated_database_password_is_used_for_new_connections(bot: Any) -> None:
    from botctl.storage import scram

    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    new = scram.new_password()
    bot.credentials = messages.Credentials(
        generation=2, database=new, redis=bot.credentials.redis, previous_database=bot.credentials.database
    )
    bot.send(messages.Rotate(credentials=bot.credentials))

    async def rotated() -> bool:
        return any(isinstance(one, messages.Rotated) for one in bot.receive())

    await until(rotated)
    await bot.rows("SELECT botctl_admin.set_bot_password({bot}, $1)", scram.random_verifier(new))
    await bot.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bot_{bot}'")
    await bot.say("hello")
    assert await bot.answers(1) == ["echo hello"]
    assert new not in bot.output()


async def test_an_unknown_token_ends_the_bot_and_says_so(bot: Any) -> None:
    await bot.telegram.remove_bot(bot.bot_id)
    bot.start()
    assert await bot.ended() == 1
    failing = [one for one in bot.messages if isinstance(one, messages.Failing)]
    assert [one.failure for one in failing] == [messages.Failure.BAD_TOKEN]
    assert bot.token.split(":")[1] not in bot.output() + failing[0].detail


@pytest.mark.parametrize("spec", [{"handlers": "handlers_for_tests:thrice"}, {"assistant": {}}])
async def test_a_token_refused_while_sending_ends_the_bot_and_the_answer_goes_out_later(
    new_bot: Any, database: Any, spec: dict[str, Any]
) -> None:
    bot = await new_bot(database)
    bot.start(**spec)
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, status=401, times=None)
    await bot.say("hello")
    await bot.say("again")
    assert await bot.ended() == 1
    failing = [one.failure for one in bot.messages if isinstance(one, messages.Failing)]
    assert failing == [messages.Failure.BAD_TOKEN]
    assert [row[0] for row in await bot.rows("SELECT DISTINCT state FROM sends WHERE bot_id = {bot}")] == ["planned"]
    await bot.telegram.clear_faults()
    bot.start(previous_failure="bad_token")
    await bot.settled(2)
    expected = 6 if "handlers" in spec else 2
    assert len(await bot.answers(expected)) == expected
    assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 0
    assert await bot.value("SELECT max(attempts) FROM inbox WHERE bot_id = {bot}") == 1


async def test_a_401_of_something_on_the_way_is_waited_out(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, status=401, body="<html>", times=2)
    await bot.say("hello")
    assert await bot.answers(1) == ["echo hello"]


async def test_broken_handlers_end_the_bot_and_say_where(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:broken")
    assert await bot.ended() == 1
    failing = next(one for one in bot.messages if isinstance(one, messages.Failing))
    assert failing.failure is messages.Failure.CODE
    assert "no such shop" in failing.detail
    assert "handlers_for_tests.py" in failing.detail


async def test_conflicts_and_outages_of_telegram_are_waited_out(bot: Any) -> None:
    await bot.telegram.inject_fault("getUpdates", bot_id=bot.bot_id, status=409, times=2)
    await bot.telegram.inject_fault("getUpdates", bot_id=bot.bot_id, status=502, body="<html>", times=1)
    await bot.telegram.inject_fault("getUpdates", bot_id=bot.bot_id, status=429, retry_after=1, times=1)
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.say("hello")
    assert await bot.answers(1) == ["echo hello"]


async def test_flood_control_is_obeyed_for_handlers_and_the_assistant(new_bot: Any, database: Any) -> None:
    for spec in ({"handlers": "handlers_for_tests:echo"}, {"assistant": {}}):
        bot = await new_bot(database)
        bot.start(**spec)
        await bot.ready()
        await bot.telegram.inject_fault("sendMessage", bot_id=bot.bot_id, status=429, retry_after=1)
        await bot.say("hello")
        assert len(await bot.answers(1)) == 1
        await bot.settled(1)
        assert await bot.value("SELECT sum(uncertain) FROM sends WHERE bot_id = {bot}") == 0
        assert await bot.value("SELECT attempts FROM inbox WHERE bot_id = {bot}") == 1


async def test_a_blocked_bot_gives_up_the_answer_and_goes_on(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.telegram.set_chat(bot.bot_id, 100, blocked=True)
    await bot.telegram.inject(
        bot.bot_id,
        {
            "message": {
                "message_id": 5,
                "date": 1,
                "text": "hello",
                "chat": {"id": 100, "type": "private", "first_name": "A"},
                "from": {"id": 100, "is_bot": False, "first_name": "A"},
            }
        },
    )
    await bot.settled(1)
    row = (await bot.rows("SELECT state, error FROM sends WHERE bot_id = {bot}"))[0]
    assert row["state"] == "failed"
    assert row["error"].startswith("Forbidden")


async def test_odd_updates_are_cleaned_kept_or_become_dead_letters(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.say_many(bot.bot_id, [(100, "a\x00b"), (100, "c")])
    await bot.telegram.inject(bot.bot_id, {"message": {"message_id": "x", "chat": 7}})
    await bot.telegram.inject(bot.bot_id, {"something_new": {"a\x00": ["\ud800"]}})
    await bot.telegram.inject(bot.bot_id, {})
    await bot.say("d")
    assert await bot.answers(3) == ["echo a�b", "echo c", "echo d"]
    await bot.settled(6)
    states = await bot.rows("SELECT kind, state FROM inbox WHERE bot_id = {bot} ORDER BY inbox_id")
    assert [tuple(row) for row in states] == [
        ("message", "done"),
        ("message", "done"),
        ("message", "dead"),
        ("something_new", "done"),
        ("unknown", "done"),
        ("message", "done"),
    ]


async def test_a_payload_the_database_refuses_becomes_a_dead_letter_alone(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.inject_fault(
        "getUpdates",
        bot_id=bot.bot_id,
        status=200,
        body='{"ok":true,"result":[{"update_id":7,"poll":{"id":1e999999}},{"no_id":1},'
        '{"update_id":8,"message":{"message_id":1,"date":1,"text":"ok","chat":{"id":100,"type":"private",'
        '"first_name":"A"},"from":{"id":100,"is_bot":false,"first_name":"A"}}}]}',
    )
    await bot.say("wake the poll")
    assert "echo ok" in await bot.answers(2)


async def test_an_update_that_is_too_deep_becomes_a_dead_letter_and_the_others_are_answered(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    deep = "[" * 20_000 + "]" * 20_000
    await bot.telegram.inject_fault(
        "getUpdates",
        bot_id=bot.bot_id,
        status=200,
        body=f'{{"ok":true,"result":[{{"update_id":7,"message":{deep}}},'
        '{"update_id":8,"message":{"message_id":1,"date":1,"text":"ok","chat":{"id":100,"type":"private",'
        '"first_name":"A"},"from":{"id":100,"is_bot":false,"first_name":"A"}}}]}',
    )
    await bot.say("wake the poll")
    assert "echo ok" in await bot.answers(2)
    row = (await bot.rows("SELECT state, payload, last_error FROM inbox WHERE bot_id = {bot} AND update_id = 7"))[0]
    assert row["state"] == "dead"
    assert deep in row["payload"]
    assert "RecursionError" in row["last_error"]
    await bot.heartbeat(lambda beat: beat.counters["dead_letters"] == 1)


async def test_answers_that_hold_nothing_usable_are_not_asked_for_in_a_hot_loop(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo")
    await bot.ready()
    await bot.telegram.inject_fault(
        "getUpdates", bot_id=bot.bot_id, status=200, body='{"ok":true,"result":[{"no_id":1}]}', times=None
    )
    await bot.say("wake the poll")

    async def told() -> bool:
        return sum("can't be used" in line["event"] for line in bot.lines()) >= 2

    await until(told)
    await bot.telegram.clear_faults()
    assert await bot.answers(1) == ["echo wake the poll"]
    calls = await bot.telegram.calls(method="getUpdates", bot_id=bot.bot_id)
    assert len(calls) < 10


async def test_a_graceful_stop_finishes_what_is_under_way(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:slow_chat")
    await bot.ready()
    await bot.say("slow")

    async def begun() -> bool:
        return bool(await bot.value("SELECT attempts FROM inbox WHERE bot_id = {bot}"))

    await until(begun)
    await bot.say("quick")
    assert await bot.stop(timeout=10) == 0
    assert (await bot.heard())[0] == "echo slow"
    bot.start()
    assert await bot.answers(2) == ["echo slow", "echo quick"]


async def test_a_stop_that_runs_out_of_time_leaves_the_update_and_its_attempts(bot: Any) -> None:
    bot.start(assistant={})
    await bot.ready()
    await bot.completion.inject_fault("*", hang=True)
    await bot.say("hello")

    async def waits() -> bool:
        calls = await bot.telegram.calls(method="sendChatAction", bot_id=bot.bot_id)
        return bool(calls)

    await until(waits)
    assert await bot.stop(timeout=2) == 0
    row = (await bot.rows("SELECT state, attempts FROM inbox WHERE bot_id = {bot}"))[0]
    assert tuple(row) == ("new", 0)


async def test_without_a_supervisor_the_bot_ends(bot: Any) -> None:
    bot.start()
    await bot.ready()
    bot.leave()
    assert await bot.ended() == 0


async def test_the_log_level_changes_while_the_bot_runs(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:echo", log_level="error")
    await bot.ready()
    bot.send(messages.Adjust(settings={"log_level": "INFO"}))
    await bot.say("hello")
    await bot.answers(1)

    async def speaks() -> bool:
        return any(line["event"] == "sent" for line in bot.lines())

    await until(speaks)
    assert not any(line["event"] == "ready" for line in bot.lines())


async def test_one_bot_sees_only_its_own_rows(new_bot: Any, database: Any) -> None:
    first, second = await new_bot(database), await new_bot(database)
    for bot in (first, second):
        bot.start(handlers="handlers_for_tests:echo")
        await bot.ready()
        await bot.say("hello")
        await bot.answers(1)
        await bot.settled(1)
    target = first.config["database"]
    connection = await asyncpg.connect(
        host=target.host,
        port=target.port,
        database=target.database,
        user=f"bot_{first.bot_id}",
        password=first.credentials.database,
    )
    try:
        assert await connection.fetchval("SELECT array_agg(DISTINCT bot_id) FROM messages") == [first.bot_id]
    finally:
        await connection.close()
