"""Keys and tokens with the whole stack: rotated while users talk, refused when wrong or lost, shown to nobody."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.stack import BOTCTL, Stack, descendants, eventually, token

pytestmark = pytest.mark.e2e

NORA, MAX = 7300000001, 7300000002
MARK = "xyzzy"


def _key(text: str) -> str:
    return re.findall(r"^\d+:(\S+)$", text, re.MULTILINE)[0]


async def test_keys_and_tokens_are_rotated_while_users_talk(stack: Stack):
    stack.write_fleet(
        {"name": "nora", "token": token(NORA), "encrypt_messages": True},
        {"name": "max", "token": token(MAX)},
        assistant={"instructions": "You are friendly."},
    )
    secrets: set[str] = set()
    async with stack.sandbox() as telegram:
        for number in (NORA, MAX):
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running("nora", "max")
        file = stack.data / "master.key"
        assert file.stat().st_mode & 0o777 == 0o600
        secrets.add(_key(file.read_text()))
        await telegram.say(NORA, 1, f"My favourite colour is {MARK}.", {"id": 1, "first_name": "A"})
        assert await telegram.wait_for_reply(NORA, 1, wait=30)

        said = dict.fromkeys((NORA, MAX), 0)

        async def talk(number: int) -> None:
            while True:
                said[number] += 1
                await telegram.say(number, 2, f"message {said[number]} {MARK}", {"id": 2, "first_name": "B"})
                await asyncio.sleep(0.05)

        users = [asyncio.create_task(talk(number)) for number in said]
        for _ in range(3):
            for command in (("rotate-master",), ("rotate-bot", "nora"), ("rotate-bot", "max")):
                done = await asyncio.to_thread(stack.cli, "secrets", *command)
                assert not done.stdout
            secrets.add(_key(file.read_text()))
        for user in users:
            user.cancel()
        assert len(secrets) == 4, "four master keys, one after another"

        async def answered() -> bool:
            heard = [await telegram.transcript(number, 2) for number in said]
            return [sum(one["from"]["is_bot"] for one in of) for of in heard] == list(said.values())

        await eventually(answered, "an answer to every message, and one only")
        kept = json.loads(stack.cli("secrets", "status", "--json").stdout)
        assert (kept["version"], kept["held"], kept["to_rewrap"], kept["data_keys"]) == (4, [4], 0, 8)
        assert [bot["key"] for bot in kept["bots"]] == [4, 4]
        assert [bot["encrypts_messages"] for bot in kept["bots"]] == [True, False]
        assert {bot["state"] for bot in stack.status()["bots"]} == {"running"}
        await telegram.say(NORA, 1, "What is my favourite colour?", {"id": 1, "first_name": "A"})
        reply = (await telegram.wait_for_reply(NORA, 1, after=0, wait=30)) and await eventually(
            lambda: _answers(telegram, 2), "a second answer"
        )
        assert MARK in reply[1], "a message that the first key has sealed"
        rows = await stack.rows("SELECT text FROM messages WHERE bot_id = $1 AND text <> ''", NORA)
        assert rows
        assert all(row[0].startswith("$sealed:") for row in rows)
        keys = {int.from_bytes(base64.b64decode(row[0].removeprefix("$sealed:"))[1:5], "big") for row in rows}
        assert keys == {1, 2, 3, 4}

        # A new token, which the daemon's next start uses too.
        fresh = token(NORA).replace("AAE2", "BBF3")
        pid = stack.bot("nora")["pid"]
        assert _rotate_token(stack, "nora", fresh).returncode == 5, "Telegram does not know it yet"
        assert _rotate_token(stack, "nora", token(MAX)).returncode == 5
        assert _rotate_token(stack, "nosuch", "").returncode == 4
        await telegram.register_bot(fresh)
        done = _rotate_token(stack, "nora", fresh)
        assert done.returncode == 0, done.stderr
        secrets.add(fresh.partition(":")[2])
        await eventually(lambda: stack.bot("nora")["pid"] not in (None, pid), "a new process")
        await stack.until_running("nora")
        assert (stack.bot("nora")["token"], stack.bot("max")["token"]) == ("rotated", "file")
        stack.cli("apply", "--fleet", str(stack.fleet_file))
        assert stack.bot("nora")["token"] == "rotated"
        os.kill(await stack.service_pid("control"), signal.SIGKILL)
        stack.cli("stop")
        stack.start()
        await stack.until_running("nora", "max")
        assert stack.bot("nora")["token"] == "rotated"
        await telegram.say(NORA, 3, "Hello again.", {"id": 3, "first_name": "C"})
        assert await telegram.wait_for_reply(NORA, 3, wait=30)
        kept = json.loads(stack.cli("secrets", "status", "--json").stdout)
        assert (kept["version"], [bot["key"] for bot in kept["bots"]]) == (4, [4, 4])

        logs = stack.logs()
        for secret in secrets:
            assert secret not in logs
        for pid in (stack.daemon_pid, *descendants(stack.daemon_pid)):
            for name in ("cmdline", "environ"):
                try:
                    shown = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                assert not any(secret in shown for secret in secrets)


async def _answers(telegram: object, number: int) -> list[str]:
    transcript = await telegram.transcript(NORA, 1)  # type: ignore[attr-defined]
    heard = [one["text"] for one in transcript if one["from"]["is_bot"]]
    return heard if len(heard) >= number else []


def _rotate_token(stack: Stack, name: str, fresh: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BOTCTL, "bot", "rotate-token", name],
        env=stack.environment,
        input=fresh + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_lost_or_wrong_master_key_is_refused_and_put_back_it_serves(stack: Stack):
    stack.write_fleet({"name": "nora", "token": token(NORA), "encrypt_messages": True})
    async with stack.sandbox() as telegram:
        await telegram.register_bot(token(NORA))
        stack.start()
        await stack.until_running("nora")
        stack.cli("stop")
        file = stack.data / "master.key"
        right = file.read_text()

        def refused(**environment: str) -> str:
            before = dict(stack.environment)
            stack.environment |= environment
            done = stack.cli("start", "--fleet", str(stack.fleet_file), "--detach", check=False)
            stack.environment = before
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            assert "hint: " in done.stderr
            return done.stderr

        file.unlink()
        assert "the master key is lost" in refused()
        assert not file.exists(), "no new one was made"
        other = base64.b64encode(os.urandom(32)).decode()
        assert "the master key is another one" in refused(BOTCTL_MASTER_KEY=other)
        assert other not in stack.logs()
        assert "version 1 is missing" in refused(BOTCTL_MASTER_KEY=f"2:{other}")
        assert "can't be read" in refused(BOTCTL_MASTER_KEY="hello")
        file.write_text(right)
        file.chmod(0o644)
        assert "open to others" in refused()
        file.chmod(0o600)
        stack.start()
        await stack.until_running("nora")
        stack.cli("stop")

        # The same key from the environment; the file is needed no more.
        stack.environment["BOTCTL_MASTER_KEY"] = _key(right)
        file.unlink()
        stack.start()
        await stack.until_running("nora")
        assert json.loads(stack.cli("secrets", "status", "--json").stdout)["source"] == "environment"
        entry = stack.cli("secrets", "rotate-master").stdout.strip()
        stack.environment["BOTCTL_MASTER_KEY"] = f"{entry},{_key(right)}"
        done = stack.cli("secrets", "rotate-master")
        assert "version 2 is in use; 1 data key rewrapped" in done.stderr
        os.kill(await stack.service_pid("control"), signal.SIGKILL)

        def back() -> bool:
            done = stack.cli("secrets", "status", "--json", check=False)
            return done.returncode == 0 and json.loads(done.stdout)["version"] == 2

        await eventually(back, "the next control has the new one")
        stack.cli("stop")
        stack.environment["BOTCTL_MASTER_KEY"] = entry
        stack.start()
        await stack.until_running("nora")
        assert not file.exists()
