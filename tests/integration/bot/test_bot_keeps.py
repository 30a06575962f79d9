"""What handlers keep with PTB's persistence is committed with the update, in a real bot that is killed."""

from __future__ import annotations

from typing import Any

KEPT = "SELECT value FROM kept_data WHERE bot_id = {bot} AND kind = $1 AND owner LIKE $2 AND NOT gone"


async def test_a_conversation_goes_on_after_a_kill_and_a_replay_sees_nothing_of_its_own_half(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:keeping")
    await bot.ready()
    await bot.say("/form")
    assert await bot.answers(1) == ["name?"]
    await bot.settled(1)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.say("fail")
    assert (await bot.answers(2))[-1] == "age?", "the third attempt"
    await bot.settled(2)
    bot.kill()
    bot.start()
    await bot.ready()
    await bot.say("36")
    assert (await bot.answers(3))[-1] == "('fail', '36') tries 1", "attempts that failed have counted nothing"
    await bot.settled(3)
    assert await bot.value(KEPT, "user", "%") == '{"answers":{"$tuple":["fail","36"]}}'
    assert await bot.value(KEPT, "conversation", "%") is None
    assert '"forms":{"$dict":[[100,{"$tuple":["fail","36"]}]]}' in await bot.value(KEPT, "bot", "%")
    await bot.say("/tell")
    assert "'forms', 'spoiled', 'started', 'tool'" in (await bot.answers(4))[-1]
    told = [line for line in bot.lines() if "can't be stored" in line["event"]]
    assert {(line["place"], line["type"]) for line in told} == {("bot_data['tool']", "asyncio.locks.Lock")}
    assert await bot.stop() == 0


async def test_a_process_that_dies_in_a_handler_leaves_what_was_kept_as_it_was(bot: Any) -> None:
    bot.start(handlers="handlers_for_tests:keeping")
    await bot.ready()
    await bot.say("/form")
    await bot.answers(1)
    await bot.settled(1)
    before = await bot.rows("SELECT kind, owner, value FROM kept_data WHERE bot_id = {bot} ORDER BY kind, owner")
    await bot.say("die")
    await bot.ended()
    assert before == await bot.rows(
        "SELECT kind, owner, value FROM kept_data WHERE bot_id = {bot} ORDER BY kind, owner"
    )
    assert await bot.value(KEPT, "conversation", "%") == '{"state":1}'
