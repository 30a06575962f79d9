"""A bot whose polls are swallowed, in a whole daemon: noticed from outside, restarted, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from botctl.cli.boot import BootPayload, encode
from botctl.fleet import load_fleet
from support import why_outputs
from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

DEAF, WELL = 7500000001, 7500000002


def commit_age(stack: Stack) -> float:
    """Seconds since the well bot committed updates; only a commit makes them fewer."""
    (age,) = re.findall(r'botctl_bot_last_commit_age_seconds{bot="well"} (\S+)', stack.metrics())
    return float(age)


async def test_a_bot_whose_polls_are_swallowed_is_degraded_then_restarted(stack: Stack, tmp_path: Path) -> None:
    stack.write_fleet({"name": "deaf", "token": token(DEAF)}, {"name": "well", "token": token(WELL)})
    fleet = load_fleet(stack.fleet_file, {})
    payload = BootPayload(
        data_dir=str(stack.data),
        fleet=msgspec.Raw(fleet.model_dump_json().encode()),
        telegram_base_url=stack.urls["telegram"],
        openai_api_key=stack.environment["OPENAI_API_KEY"],
        openai_base_url=stack.environment["OPENAI_BASE_URL"],
        control_options={"hearing": {"interval": 1.0, "patience": 2.5}},
    )
    with (tmp_path / "words").open("w+b") as words:
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-m", "botctl.cli.daemon"],
            stdin=subprocess.PIPE, stdout=words, stderr=words, env=stack.environment, start_new_session=True,
        )  # fmt: skip
        assert daemon.stdin is not None
        daemon.stdin.write(encode(payload))
        daemon.stdin.close()
        try:
            await eventually(lambda: (stack.data / "run/api.sock").exists(), "it serves")
            await stack.until_running("deaf", "well")
            before = stack.bot("deaf")
            async with stack.sandbox() as telegram:
                await eventually(lambda: commit_age(stack) > 4.0, "nothing to commit for a while")
                await telegram.say(WELL, 701, "and you?", {"id": 701, "first_name": "Ada"})
                await eventually(lambda: commit_age(stack) < 3.0, "the other one has committed")
                # The poll that is held already hears the first message; those after it are never answered.
                await telegram.inject_fault("getUpdates", bot_id=DEAF, hang=True, times=None)
                for number in range(3):
                    await telegram.say(DEAF, 701, f"number {number}", {"id": 701, "first_name": "Ada"})
                await eventually(lambda: stack.bot("deaf")["incarnation"] > before["incarnation"], "restarted")
                why_outputs.keep("deaf", stack.cli("why", "deaf").stdout, stack.folder)
                log = (stack.data / "logs/daemon.log").read_text()
                said = re.findall(r'"event": "bot (\w+)", .*?"reason": "\d updates? waits? at Telegram, none was', log)
                assert said[:2] == ["degraded", "stopping"], log
                body = stack.metrics()
                assert 'botctl_telegram_pending_updates{bot="deaf"} 0' not in body
                assert 'botctl_telegram_pending_updates{bot="well"} 0.0' in body
                await telegram.clear_faults()
                await stack.until_running("deaf")

                async def answers() -> int:
                    found = await telegram.transcript(DEAF, 701)
                    return sum(1 for message in found if message.get("from", {}).get("is_bot"))

                async def all_answered() -> bool:
                    return await answers() >= 3

                await eventually(all_answered, "all three answered")
                assert await answers() == 3
            assert stack.bot("well")["restarts"] == 0
        finally:
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(60)
