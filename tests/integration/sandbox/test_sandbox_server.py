"""The emulators as a process: starting, stopping, the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from botctl.sandbox.client import SandboxClient, SandboxError
from botctl.sandbox.process import SandboxProcess
from botctl.sandbox.server import Options, Sandbox

Until = Callable[..., Awaitable[None]]


async def test_it_ends_within_a_second_though_long_polls_are_held(
    start: Callable[..., SandboxProcess], until: Until
) -> None:
    servers = start("--bot", "1:abc", "--bot", "2:abc")
    async with aiohttp.ClientSession() as session, SandboxClient(servers.telegram) as operator:
        polls = [
            asyncio.create_task(session.get(f"{servers.telegram}/bot{number}:abc/getUpdates?timeout=30"))
            for number in (1, 2)
        ]
        watcher = asyncio.create_task(operator.events(1, wait=30))
        await until(_all_polled, operator)
        began = time.monotonic()
        servers.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(servers.process.wait, 5)
        assert time.monotonic() - began < 1
        assert code == 0
        results = await asyncio.gather(*polls, watcher, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results)


async def test_interrupt_ends_it_without_a_traceback(start: Callable[..., SandboxProcess]) -> None:
    servers = start()
    servers.process.send_signal(signal.SIGINT)
    _, errors = await asyncio.to_thread(servers.process.communicate, None, 5)
    assert (servers.process.returncode, errors) == (0, b"")


async def test_the_ready_file_has_the_line(start: Callable[..., SandboxProcess], tmp_path: Path) -> None:
    servers = start("--ready-file", str(tmp_path / "ready.json"))
    ready = json.loads((tmp_path / "ready.json").read_text())
    assert ready == {"telegram": servers.telegram, "completion": servers.completion}
    assert ready["completion"].endswith("/v1")


async def test_any_bot_and_any_chat(start: Callable[..., SandboxProcess]) -> None:
    servers = start("--any-bot", "--any-chat")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{servers.telegram}/bot5:abc/sendMessage?chat_id=9&text=hi") as response:
            assert (await response.json())["ok"] is True
        async with session.get(f"{servers.telegram}/bot5:other/getMe") as response:
            assert response.status == 401


@pytest.mark.parametrize("arguments", [["--bot", "nonsense"], ["--telegram-port", "x"]])
async def test_wrong_arguments_are_exit_code_2(arguments: list[str]) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "botctl.sandbox", *arguments], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr


async def test_a_taken_port_is_exit_code_1() -> None:
    async with Sandbox(Options()) as sandbox:
        port = sandbox.telegram_url.rpartition(":")[2]
        command = [sys.executable, "-m", "botctl.sandbox", "--telegram-port", port]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: can't listen on 127.0.0.1")


async def test_it_ends_with_its_parent(until: Until) -> None:
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'botctl.sandbox', '--die-with-parent'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int((await asyncio.to_thread(parent.stdout.readline)).split()[0])
    parent.kill()
    await asyncio.to_thread(parent.communicate)
    await until(_ended, pid)


async def test_inside_a_test_it_needs_no_process() -> None:
    async with Sandbox(Options(bots=("1:abc",))) as sandbox, SandboxClient(sandbox.telegram_url) as operator:
        assert await operator.health()
        await operator.say(1, 5, "hi")
        assert len(sandbox.telegram.bots[1].updates) == 1
    async with SandboxClient(sandbox.telegram_url) as operator:
        assert not await operator.health()


async def _all_polled(operator: SandboxClient) -> bool:
    return all(bot["polled"] for bot in await operator.bots())


async def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    os.sched_yield()
    return state == "Z"


async def test_faults_and_limits_from_the_start(start: Callable[..., SandboxProcess], tmp_path: Path) -> None:
    script = {"telegram": [{"method": "getMe", "status": 502}], "completion": [{"status": 500}]}
    (tmp_path / "faults.json").write_text(json.dumps(script))
    servers = start("--any-bot", "--flood", "telegram", "--https-webhooks", "--faults", str(tmp_path / "faults.json"))
    async with aiohttp.ClientSession() as session, SandboxClient(servers.telegram) as operator:
        address = f"{servers.telegram}/bot1:abc"
        for status in (502, 200):
            async with session.get(f"{address}/getMe") as response:
                assert response.status == status
        async with session.get(f"{servers.completion}/models", headers={"Authorization": "Bearer k"}) as response:
            assert response.status == 500
        async with session.get(f"{address}/setWebhook?url=http://127.0.0.1:9/hook") as response:
            assert (await response.json())["description"] == (
                "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"
            )
        await operator.set_chat(1, 5)
        statuses = []
        for _ in range(4):
            async with session.post(f"{address}/sendMessage", json={"chat_id": 5, "text": "x"}) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 200, 429]
        with pytest.raises(SandboxError, match="limits are a JSON object of bot_burst"):
            await operator.set_limits(chat_brust=1)
        with pytest.raises(SandboxError, match="flood is one of telegram, off"):
            await operator.set_limits(flood="biblical")


def test_a_wrong_file_of_faults_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"telegram": [{"cut": true}, {"dealy": 1}]}')
    command = [sys.executable, "-m", "botctl.sandbox", "--faults", str(tmp_path / "faults.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, "telegram[1]: unknown field 'dealy'" in done.stderr) == (2, True), done.stderr
