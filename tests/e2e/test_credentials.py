"""Passwords of bots with the whole stack: new ones while users talk, also by a `control` that knows none of the old."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

IDS = {"nora": 7310000001, "max": 7310000002}


async def test_passwords_are_rotated_while_users_talk(stack: Stack):
    stack.write_fleet(
        *({"name": name, "token": token(number)} for name, number in IDS.items()),
        assistant={"instructions": "You are friendly."},
    )
    said = dict.fromkeys(IDS.values(), 0)
    async with stack.sandbox() as telegram:
        for number in said:
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running(*IDS)
        pids = {name: stack.bot(name)["pid"] for name in IDS}

        async def talk(number: int) -> None:
            while True:
                said[number] += 1
                await telegram.say(number, 1, f"message {said[number]}", {"id": 1, "first_name": "A"})
                await asyncio.sleep(0.05)

        users = [asyncio.create_task(talk(number)) for number in said]
        for name in ("", "nora", ""):
            done = await asyncio.to_thread(stack.cli, "secrets", "rotate-credentials", *filter(None, [name]))
            assert "new passwords" in done.stderr
        killed = await stack.service_pid("control")
        os.kill(killed, signal.SIGKILL)

        async def rotated() -> bool:
            done = await asyncio.to_thread(stack.cli, "secrets", "rotate-credentials", check=False)
            return done.returncode == 0

        await eventually(rotated, "a new control")
        assert await stack.service_pid("control") != killed
        for user in users:
            user.cancel()

        async def answered() -> bool:
            heard = [await telegram.transcript(number, 1) for number in said]
            return [sum(one["from"]["is_bot"] for one in of) for of in heard] == list(said.values())

        await eventually(answered, "an answer to every message, and one only")
    assert {name: stack.bot(name)["pid"] for name in IDS} == pids, "nobody was restarted"
    generations = await stack.rows("SELECT bot_id, generation FROM bot_credentials")
    assert dict(map(tuple, generations)) == {IDS["nora"]: 5, IDS["max"]: 4}
    for name in IDS:
        log = (stack.data / "logs" / f"{name}.log").read_text()
        assert log.count("credentials rotated") == (4 if name == "nora" else 3)
        assert "database is away" not in log
        assert "redis" not in log.casefold().replace("redis_url", ""), "no trouble with it"
