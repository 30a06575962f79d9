"""Quarantine with the whole stack: by command, across a restart of the daemon, until the release."""

from __future__ import annotations

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

NORA, MAX = 7400000001, 7400000002


async def test_a_bot_stays_shut_away_over_a_restart_until_it_is_released(stack: Stack):
    stack.write_fleet({"name": "nora", "token": token(NORA)}, {"name": "max", "token": token(MAX)}, assistant={})
    async with stack.sandbox() as telegram:
        for number in (NORA, MAX):
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running("nora", "max")
        assert "nora is shut away" in stack.cli("quarantine", "nora").stderr

        await eventually(lambda: stack.bot("nora")["pid"] is None, "its process is gone", timeout=5)
        assert (stack.bot("nora")["state"], stack.bot("nora")["shut_away"]) == ("quarantined", True)
        assert "quarantined by operator, until it is released" in stack.cli("status").stdout
        assert "stays so when a daemon is started anew" in stack.cli("why", "nora").stdout
        stack.cli("stop")
        stack.start()
        await stack.until_running("max")
        assert (stack.bot("nora")["state"], stack.bot("nora")["shut_away"], stack.bot("nora")["pid"]) == (
            "quarantined",
            True,
            None,
        )
        assert stack.cli("restart", "nora", check=False).returncode == 5
        assert "nora is shut away already" in stack.cli("stop", "nora").stderr
        stack.cli("release", "nora")
        await stack.until_running("nora", "max")
        await telegram.say(NORA, 1, "My name is Ada.", {"id": 1, "first_name": "A"})
        assert await telegram.wait_for_reply(NORA, 1, wait=30)
