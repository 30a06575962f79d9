"""Wrong fleet files: a message that says where and what to do, the right exit code, and nothing is changed."""

from __future__ import annotations

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

GOOD, OTHER = 7200000001, 7200000002


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("bots:\n  - name: a\n    token: 1:aaaa\n    colour: red\n", ":4: bots[0].colour", "unknown key"),
        ("bots:\n  - name: a\n    token: ${NO_SUCH_VARIABLE}\n", ":3: bots[0].token", "NO_SUCH_VARIABLE is not set"),
        (
            "bots:\n  - name: a\n    token: 1:aaaa\n  - name: a\n    token: 2:bbbb\n",
            ":4: bots[1].name",
            "name of another bot",
        ),
        ("bots:\n  - name: a\n    token: nonsense\n", ":3: bots[0].token", "no bot token"),
        ("bots: [\n", ":2", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(stack: Stack, text: str, place: str, message: str):
    stack.fleet_file.write_text(text)
    done = stack.cli("start", "--fleet", str(stack.fleet_file), "--detach", check=False)
    assert done.returncode == 2
    assert f"{stack.fleet_file}{place}" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (stack.data / "run" / "daemon.json").exists()


async def test_a_token_that_telegram_refuses_costs_its_own_bot_only(stack: Stack):
    stack.write_fleet({"name": "good", "token": token(GOOD)}, {"name": "bad", "token": token(OTHER)})
    async with stack.sandbox() as telegram:
        await telegram.register_bot(token(OTHER).replace("AAE2", "XXXX"))
        stack.start()
        await stack.until_running("good")
        bad = await eventually(
            lambda: next(
                (b for b in stack.status()["bots"] if b["name"] == "bad" and b["state"] == "quarantined"), None
            ),
            "the bad one is quarantined",
        )
        assert bad["last_failure"] == "bad_token"
        await telegram.say(GOOD, 1, "Hello.", {"id": 1, "first_name": "A"})
        assert await telegram.wait_for_reply(GOOD, 1, wait=30)

        # Corrected and applied, it runs; the other is not touched.
        pid = stack.bot("good")["pid"]
        stack.write_fleet(
            {"name": "good", "token": token(GOOD)}, {"name": "bad", "token": token(OTHER).replace("AAE2", "XXXX")}
        )
        stack.cli("apply", "--fleet", str(stack.fleet_file))
        await stack.until_running("bad")
        assert stack.bot("good")["pid"] == pid

        # A file that is wrong changes nothing.
        stack.fleet_file.write_text("bots:\n  - name: good\n    token: ''\n    wat: 1\n")
        assert stack.cli("apply", "--fleet", str(stack.fleet_file), check=False).returncode == 2
        assert stack.bot("good")["pid"] == pid

        # Removed, it stops, cannot log in any more, and its rows stay.
        stack.write_fleet({"name": "bad", "token": token(OTHER).replace("AAE2", "XXXX")})
        stack.cli("apply", "--fleet", str(stack.fleet_file))
        await eventually(lambda: [b["name"] for b in stack.status()["bots"]] == ["bad"], "good is gone")

        async def locked_out() -> bool:
            rows = await stack.rows("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", f"bot_{GOOD}")
            return not rows or not rows[0][0]

        await eventually(locked_out, "its login is dropped")
        assert (await stack.rows("SELECT count(*) FROM messages WHERE bot_id = $1", GOOD))[0][0] == 2
