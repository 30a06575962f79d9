"""Rolling restarts of a real fleet with handlers on disk: good code rolls through, bad code is taken back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from support.stack import BOTCTL, Stack, eventually, token

pytestmark = pytest.mark.e2e

BOTS = {f"shop{n}": 7310000000 + n for n in range(1, 6)}
CHATS = range(701, 705)

CODE = """
from pathlib import Path

from telegram.ext import MessageHandler, filters

from wares.prices import WORD


async def answer(update, context):
    {body}
    await update.message.reply_text(f"{{WORD}}: {{update.message.text}}")


def register(app, bot):
    app.add_handler(MessageHandler(filters.TEXT, answer))
"""


def write_code(stack: Stack, word: str, body: str = "pass") -> None:
    package = stack.folder / "wares"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "prices.py").write_text(f"WORD = {word!r}\n")
    (stack.folder / "shop.py").write_text(CODE.format(body=body))


async def start(stack: Stack) -> None:
    write_code(stack, "first")
    stack.write_fleet(
        *({"name": name, "token": token(bot_id)} for name, bot_id in BOTS.items()),
        handlers="shop:register", restart={"stop_timeout": "3s"},
    )  # fmt: skip
    stack.start()
    await stack.until_running(*BOTS)


class Users:
    """People who write to every bot, again and again; `check` finds every message answered, once."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sent: dict[tuple[int, int], int] = {}
        self.enough = asyncio.Event()

    async def write(self, pause: float = 0.1) -> None:
        async with self.stack.sandbox() as telegram:
            while not self.enough.is_set():  # not cancelled: what was said must be counted
                for bot_id in BOTS.values():
                    for chat in CHATS:
                        await telegram.say(bot_id, chat, "how much?", {"id": chat, "first_name": f"U{chat}"})
                        self.sent[bot_id, chat] = self.sent.get((bot_id, chat), 0) + 1
                    await asyncio.sleep(pause)

    async def answers(self) -> dict[tuple[int, int], list[str]]:
        found = {}
        async with self.stack.sandbox() as telegram:
            for bot_id, chat in self.sent:
                messages = await telegram.transcript(bot_id, chat)
                found[bot_id, chat] = [one["text"] for one in messages if one.get("from", {}).get("is_bot")]
        return found

    async def check(self) -> dict[tuple[int, int], list[str]]:
        async def complete() -> bool:
            answers = await self.answers()
            return all(len(answers[key]) >= count for key, count in self.sent.items())

        await eventually(complete, "every message answered", 60)
        answers = await self.answers()
        assert {key: len(texts) for key, texts in answers.items()} == self.sent
        return answers


@asynccontextmanager
async def writing(users: Users) -> AsyncIterator[None]:
    """They write during this, and everybody has been written to before it begins."""
    users.enough.clear()
    task = asyncio.create_task(users.write())
    try:
        before = dict(users.sent)
        keys = [(bot_id, chat) for bot_id in BOTS.values() for chat in CHATS]
        await eventually(lambda: all(users.sent.get(key, 0) > before.get(key, 0) for key in keys), "all have written")
        yield
    finally:
        users.enough.set()
        await task


async def command(stack: Stack, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *BOTCTL, *arguments, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


_fresh_chats = count(801)


async def expect_word(stack: Stack, word: str, *names: str) -> None:
    """These bots, or all of them, answer a newcomer with this word."""
    chat = next(_fresh_chats)
    async with stack.sandbox() as telegram:
        for name in names or BOTS:
            await telegram.say(BOTS[name], chat, "and now?", {"id": chat, "first_name": "New"})
        for name in names or BOTS:
            await telegram.wait_for_reply(BOTS[name], chat, wait=30)
            texts = [m["text"] for m in await telegram.transcript(BOTS[name], chat) if m.get("from", {}).get("is_bot")]
            assert texts == [f"{word}: and now?"], name


async def test_good_code_rolls_through_while_users_write_and_bad_code_is_taken_back(stack: Stack):
    await start(stack)
    incarnations = {bot["name"]: bot["incarnation"] for bot in stack.status()["bots"]}

    users = Users(stack)

    # Good code.
    write_code(stack, "second")
    async with writing(users):
        code, out, err = await command(stack, "restart", "--wave", "40%", "--watch", "--settle", "5")
        assert code == 0, out + err
    answers = await users.check()
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("wave")] == [
        f"wave {n} of 3" for n in (1, 2, 3)
    ]
    assert lines[-1].startswith("done: 5 bots restarted")
    assert all({text.partition(":")[0] for text in texts} == {"first", "second"} for texts in answers.values())
    after = {bot["name"]: bot["incarnation"] for bot in stack.status()["bots"]}
    assert after == {name: number + 1 for name, number in incarnations.items()}
    await expect_word(stack, "second")

    # Bad code: every handler raises. The first wave shows it, nobody else is touched, nothing is lost.
    write_code(stack, "third", body="raise RuntimeError('no prices today')")
    async with writing(users):
        code, out, err = await command(stack, "restart", "--wave", "2", "--watch", "--settle", "20")
        assert code == 1, out + err
        assert "rolled back: " in err
        assert "updates were not answered" in err
        assert "wave 2" not in out
    bots = {bot["name"]: bot for bot in stack.status()["bots"]}
    assert {name for name, bot in bots.items() if bot["incarnation"] > after[name]} == {"shop1", "shop2"}
    assert all(bot["code"] for bot in bots.values()), "everybody's next start takes the old code"
    await users.check()
    await expect_word(stack, "second")

    # A crash after that does not bring the bad code back, to nobody; a restart by the operator does.
    for name in ("shop1", "shop5"):
        os.kill(bots[name]["pid"], signal.SIGKILL)
        await eventually(lambda name=name: stack.bot(name)["pid"] not in (None, bots[name]["pid"]), f"{name} is back")
    await stack.until_running(*BOTS)
    await expect_word(stack, "second")
    write_code(stack, "fourth")
    stack.cli("restart", "shop1")
    await expect_word(stack, "fourth", "shop1")
    await expect_word(stack, "second", "shop2")


async def test_a_rollout_outlives_its_client_and_is_taken_back_when_control_dies(stack: Stack):
    await start(stack)
    write_code(stack, "second")
    one = subprocess.Popen(
        [*BOTCTL, "restart", "--wave", "1", "--watch", "--settle", "8"],
        env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert one.stdout is not None
        assert "generation" in one.stdout.readline()
    finally:
        one.kill()
        one.wait(10)
        one.stdout.close()
    await eventually(lambda: stack.bot("shop1")["incarnation"] == 2, "the first wave has begun")

    # It goes on: another one is refused, and so is a change of the fleet; a single bot obeys.
    code, _, err = await command(stack, "restart", "--wave", "1")
    assert (code, "under way" in err) == (5, True), err
    assert (await command(stack, "apply", "--fleet", str(stack.fleet_file)))[0] == 5
    assert (await command(stack, "restart", "shop5"))[0] == 0

    os.kill(await stack.service_pid("control"), signal.SIGKILL)

    def taken_back() -> bool:
        done = stack.cli("status", "--json", check=False)
        if done.returncode != 0:
            return False
        shop1 = next(bot for bot in json.loads(done.stdout)["bots"] if bot["name"] == "shop1")
        return bool(shop1["incarnation"] == 3 and shop1["state"] == "running")

    await eventually(taken_back, "what the dead control had begun is taken back", 60)
    deadline = time.monotonic() + 30
    while (await command(stack, "restart", "--abort"))[0] != 5:
        assert time.monotonic() < deadline, "the rollout does not end"
    await expect_word(stack, "first")

    # And the next one works.
    code, out, err = await command(stack, "restart", "--wave", "3")
    assert code == 0, out + err
    await expect_word(stack, "second")
