"""kill -9 of everything while the fleet works: nothing is lost, the others don't notice, all comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from support.stack import Stack, descendants, eventually, process_gone, token

pytestmark = pytest.mark.e2e

ONE, TWO = 7300000001, 7300000002
CHATS = range(601, 621)


def fleet_of_two(stack: Stack) -> None:
    stack.write_fleet({"name": "one", "token": token(ONE)}, {"name": "two", "token": token(TWO)})


class Load:
    """Writes numbered messages to bots and counts what comes back."""

    def __init__(self, stack: Stack, *bots: int) -> None:
        self.stack = stack
        self.bots = bots
        self.sent: Counter[tuple[int, int]] = Counter()

    async def send(self, rounds: int, pause: float = 0.05) -> None:
        async with self.stack.sandbox() as telegram:
            for number in range(rounds):
                for bot in self.bots:
                    for chat in random.sample(CHATS, 4):
                        await telegram.say(bot, chat, f"note {number} please", {"id": chat, "first_name": f"U{chat}"})
                        self.sent[bot, chat] += 1
                await asyncio.sleep(pause)

    async def replies(self) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        async with self.stack.sandbox() as telegram:
            for bot, chat in self.sent:
                messages = await telegram.transcript(bot, chat)
                found[bot, chat] = sum(1 for message in messages if message.get("from", {}).get("is_bot"))
        return found

    async def settle(self, timeout: float = 60.0) -> Counter[tuple[int, int]]:
        async def answered() -> bool:
            replies = await self.replies()
            return all(replies[key] >= count for key, count in self.sent.items())

        try:
            await eventually(answered, "every message answered", timeout)
        except AssertionError:
            replies = await self.replies()
            missing = {key: count - replies[key] for key, count in self.sent.items() if replies[key] < count}
            rows = await self.stack.rows(
                "SELECT i.bot_id, i.cause, i.lane, i.state, i.attempts, i.last_error, s.state AS send, s.mode, s.error,"
                " s.uncertain FROM inbox i LEFT JOIN sends s USING (bot_id, cause)"
                " WHERE i.state <> 'done' OR s.state IS DISTINCT FROM 'sent' ORDER BY i.bot_id, i.inbox_id"
            )
            open_rows = "\n".join(str(dict(row)) for row in rows[:40])
            raise AssertionError(f"lost: {missing}\nnot done or not sent:\n{open_rows}") from None
        return await self.replies()

    async def uncertain(self) -> int:
        rows = await self.stack.rows("SELECT coalesce(sum(uncertain), 0) FROM sends")
        return int(rows[0][0])

    async def check_nothing_lost(self, timeout: float = 60.0) -> None:
        """Every message is answered once; twice only where the metric says that nobody could know."""
        replies = await self.settle(timeout)
        extra = sum(replies.values()) - sum(self.sent.values())
        assert extra <= await self.uncertain()
        counted = sum(
            float(n) for n in re.findall(r"^botctl_sends_uncertain_total\{.*\} (\S+)$", self.stack.metrics(), re.M)
        )
        assert counted == await self.uncertain()
        rows = await self.stack.rows(
            "SELECT bot_id, chat_id, count(*) FILTER (WHERE direction = 'in') AS heard,"
            " count(DISTINCT cause) FILTER (WHERE direction = 'out') AS answered FROM messages GROUP BY 1, 2"
        )
        stored = {(row["bot_id"], row["chat_id"]): (row["heard"], row["answered"]) for row in rows}
        assert stored == {key: (count, count) for key, count in self.sent.items()}
        assert (await self.stack.rows("SELECT count(*) FROM inbox WHERE state <> 'done'"))[0][0] == 0


async def test_kill_9_of_a_bot_under_load(stack: Stack):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    other = stack.bot("two")
    load = Load(stack, ONE, TWO)
    work = asyncio.create_task(load.send(60))
    kills = 0
    while not work.done():
        await asyncio.sleep(random.uniform(0.1, 0.5))
        pid = stack.bot("one")["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    await work
    assert kills >= 5
    await load.check_nothing_lost()
    await stack.until_running("one", "two")
    after = stack.bot("two")
    assert (after["pid"], after["restarts"]) == (other["pid"], other["restarts"]), "the other did not notice"
    assert stack.bot("one")["restarts"] >= kills - 1


async def test_a_killed_bot_polls_again_quickly(stack: Stack):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    times = []
    async with stack.sandbox() as telegram:
        for _ in range(5):
            seen = (await telegram.calls(method="getUpdates", bot_id=ONE, limit=1))[-1]["number"]
            pid = stack.bot("one")["pid"]
            began = time.time()
            os.kill(pid, signal.SIGKILL)

            async def polled(seen: int = seen) -> float | None:
                calls = await telegram.calls(method="getUpdates", bot_id=ONE, after=seen)
                fresh = [call["at"] for call in calls if call["status"] == 200 and call["parameters"]["timeout"] == "0"]
                return fresh[0] if fresh else None

            times.append(await eventually(polled, "polling again") - began)
            await eventually(lambda pid=pid: stack.bot("one")["pid"] not in (None, pid), "a new process")
            await stack.until_running("one")
    print(f"kill -9 to polling again: {sorted(round(1000 * t) for t in times)} ms")
    assert sorted(times)[2] < 2.0, "the figure to reach is 0.2 s; this is no benchmark, only far from minutes"


@pytest.mark.parametrize("victim", ["postgres", "valkey", "control"])
async def test_kill_9_of_a_server_while_bots_run(stack: Stack, victim: str):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    bots = {bot["name"]: bot["pid"] for bot in stack.status()["bots"]}
    load = Load(stack, ONE, TWO)
    work = asyncio.create_task(load.send(40))
    for _ in range(2):
        await asyncio.sleep(0.7)
        pid = await stack.service_pid(victim)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: process_gone(pid), "dead")

        async def back(pid: int = pid) -> bool:
            done = stack.cli("status", "--json", check=False)
            return done.returncode == 0 and await stack.service_pid(victim) != pid

        await eventually(back, f"{victim} is back")
    await work
    await load.check_nothing_lost()
    await stack.until_running("one", "two")
    assert {bot["name"]: bot["pid"] for bot in stack.status()["bots"]} == bots, "no bot was restarted for it"

    async def relayed() -> bool:
        return (await stack.rows("SELECT count(*) FROM outbox WHERE relayed_at IS NULL"))[0][0] == 0

    await eventually(relayed, "every event relayed")
    published = {row[0] for row in await stack.rows("SELECT event_id FROM outbox WHERE bot_id <> 0")}
    assert len(published) >= 2 * sum(load.sent.values()), "each message received, each answer sent"
    async with stack.redis() as client:

        async def routed() -> bool:
            entries = [
                entry for log in ("bot", "system", "user") for entry in await client.xrange(f"botctl:events:{log}")
            ]
            found = [json.loads(body)["id"] for _, fields in entries for body in fields.values()]
            return published <= set(found)

        await eventually(routed, "every event routed")


async def test_a_killed_valkey_knows_the_bots_without_control(stack: Stack):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    control, valkey = await stack.service_pid("control"), await stack.service_pid("valkey")
    async with stack.redis() as client:
        await eventually(lambda: client.exists(f"botctl:bus:bot:{ONE}:out"), "the bot's stream")

        async def last_entry() -> str:
            return str((await client.xinfo_stream(f"botctl:bus:bot:{ONE}:out"))["last-generated-id"])

        before = await last_entry()
        os.kill(control, signal.SIGSTOP)
        try:
            os.kill(valkey, signal.SIGKILL)
            await eventually(lambda: process_gone(valkey), "dead")
            async with stack.sandbox() as telegram:
                await telegram.say(ONE, 601, "note", {"id": 601, "first_name": "U"})

            async def published() -> bool:
                with contextlib.suppress(RedisError):
                    return await last_entry() != before
                return False

            await eventually(published, "the bot publishes", timeout=8.0)
            assert Path(f"/proc/{control}/stat").read_text().rpartition(")")[2].split()[0] == "T", "nobody helped"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(control, signal.SIGCONT)


async def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_carries_on(stack: Stack):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    load = Load(stack, ONE, TWO)
    work = asyncio.create_task(load.send(10))
    await asyncio.sleep(0.4)
    pid = stack.daemon_pid
    family = descendants(pid)
    assert len(family) > 5
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    await eventually(lambda: all(process_gone(process) for process in family), "no process left", timeout=10)
    assert time.monotonic() - began < 2.0
    assert stack.cli("status", check=False).returncode == 3
    await work
    stack.start()
    await stack.until_running("one", "two")
    await load.check_nothing_lost()


async def test_stop_leaves_nothing_behind(stack: Stack):
    fleet_of_two(stack)
    stack.start()
    await stack.until_running("one", "two")
    pid = stack.daemon_pid
    family = descendants(pid)
    stack.cli("stop")
    assert process_gone(pid)
    assert all(process_gone(process) for process in family)
    assert not (stack.data / "run" / "daemon.json").exists()
    assert stack.cli("stop", check=False).returncode == 3
