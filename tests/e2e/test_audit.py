"""The audit trail with the whole stack: whatever is killed, the log is intact, and says who commanded what."""

from __future__ import annotations

import json
import os
import pwd
import signal

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

NORA = 7400000001


def _verified(stack: Stack) -> dict[str, object]:
    done = stack.cli("audit", "verify", "--json", check=False)
    report: dict[str, object] = json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout else {}
    return report


async def test_the_log_is_intact_whoever_is_killed_and_a_forged_entry_shows(stack: Stack):
    stack.write_fleet({"name": "nora", "token": token(NORA)}, assistant={"instructions": "You are friendly."})
    async with stack.sandbox() as telegram:
        await telegram.register_bot(token(NORA))
        stack.start()
        await stack.until_running("nora")
        stack.cli("restart", "nora")
        stack.cli("secrets", "rotate-bot", "nora")
        os.kill(await stack.service_pid("control"), signal.SIGKILL)
        await eventually(lambda: _verified(stack).get("intact") and _verified(stack)["unsealed"] == 0, "a sealed log")
        stack.cli("stop")
        stack.start()
        await stack.until_running("nora")
        await eventually(lambda: _verified(stack).get("intact") and _verified(stack)["unsealed"] == 0, "a sealed log")
        await eventually(lambda: stack.fleet_events() == ["started", "stopped", "started"], "the bus was told of both")
        stack.cli("audit", "verify", "--offline")
        assert stack.status()["daemon"]["problems"] == []

        user = pwd.getpwuid(os.getuid()).pw_name
        shown = [
            json.loads(line) for line in stack.cli("audit", "search", "--json", "--actor", "op").stdout.splitlines()
        ]
        assert {entry["actor"] for entry in shown} == {f"operator:{user}"}
        assert {"command.restart", "command.rotate-bot"} <= {entry["action"] for entry in shown}
        everything = stack.cli("audit", "search", "--json", "--limit", "10000").stdout
        assert token(NORA).partition(":")[2] not in everything

        await stack.rows(
            "UPDATE audit_log SET actor = 'operator:mallory' WHERE action = 'command.restart' RETURNING audit_id"
        )
        done = stack.cli("audit", "verify", check=False)
        assert done.returncode == 1
        assert "CHANGED" in done.stdout
