"""Quarantine with the whole stack: by command, across a restart of the daemon, until the release."""

from __future__ import annotations

import os
import signal

import pytest

from support.stack import Stack, descendants, eventually, process_gone, token

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


async def test_one_is_completed_though_the_database_hung_and_control_was_killed(stack: Stack):
    stack.write_fleet({"name": "nora", "token": token(NORA)}, {"name": "max", "token": token(MAX)}, assistant={})
    async with stack.sandbox() as telegram:
        for number in (NORA, MAX):
            await telegram.register_bot(token(number))
        stack.start()
        await stack.until_running("nora", "max")
        url, control, postgres = (
            stack.database_url,
            await stack.service_pid("control"),
            await stack.service_pid("postgres"),
        )
        servers = [postgres, *descendants(postgres)]
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert "the rest follows" in stack.cli("quarantine", "nora").stderr
            assert (stack.data / "quarantine.pending").stat().st_mode & 0o777 == 0o600
            os.kill(control, signal.SIGKILL)
            await eventually(lambda: process_gone(control), "control is gone")
        finally:
            for pid in servers:
                os.kill(pid, signal.SIGCONT)

        async def complete() -> bool:
            (row,) = await stack.rows(
                "SELECT quarantine IS NOT NULL AS told,"
                " (SELECT rolcanlogin FROM pg_roles WHERE rolname = 'bot_' || bot_id) AS opens,"
                " (SELECT count(*) FROM audit_log a WHERE a.bot_id = b.bot_id AND action = 'login.suspended')"
                " AS audited FROM bots b WHERE bot_id = $1",
                NORA,
                url=url,
            )
            return (row["told"], row["opens"], row["audited"] > 0) == (True, False, True)

        await eventually(complete, "the database has it", timeout=30)
        await eventually(lambda: not (stack.data / "quarantine.pending").exists(), "nothing is pending")
        async with stack.redis() as redis:
            assert not [user for user in await redis.acl_users() if str(NORA) in user]
        stack.cli("stop")
        stack.start()
        await stack.until_running("max")
        assert (stack.bot("nora")["state"], stack.bot("nora")["pid"]) == ("quarantined", None)
