"""`secrets reseal` with the whole stack: old messages are sealed anew, and the old key is forgotten."""

from __future__ import annotations

import base64
import json

import pytest

from support.stack import Stack, eventually, token

pytestmark = pytest.mark.e2e

NORA = 7320000001
ANN = {"id": 1, "first_name": "Ann"}


async def _keys(stack: Stack) -> set[int]:
    rows = await stack.rows("SELECT text FROM messages WHERE bot_id = $1 AND text <> ''", NORA)
    return {int.from_bytes(base64.b64decode(row[0].removeprefix("$sealed:"))[1:5], "big") for row in rows}


async def test_old_messages_are_sealed_anew_and_the_old_key_is_forgotten(stack: Stack):
    stack.write_fleet(
        {"name": "nora", "token": token(NORA), "encrypt_messages": True},
        assistant={"instructions": "You are friendly."},
    )
    async with stack.sandbox() as telegram:
        await telegram.register_bot(token(NORA))
        stack.start()
        await stack.until_running("nora")
        await telegram.say(NORA, 1, "My favourite colour is xyzzy.", ANN)
        assert await telegram.wait_for_reply(NORA, 1, wait=30)
        stack.cli("secrets", "rotate-bot", "nora")
        assert await _keys(stack) == {1}
        done = stack.cli("secrets", "reseal", "nora")
        assert "sealed anew with data key 2" in done.stderr
        assert await _keys(stack) == {2}
        assert json.loads(stack.cli("secrets", "status", "--json").stdout)["bots"][0]["keys"] == 2, "not yet"
        await stack.rows("UPDATE bot_keys SET retired_at = now() - interval '11 min' WHERE key_id = 1 RETURNING key_id")
        assert "data keys forgotten: 1" in stack.cli("secrets", "reseal", "nora").stderr
        assert json.loads(stack.cli("secrets", "status", "--json").stdout)["bots"][0]["keys"] == 1
        entries = await stack.rows("SELECT after FROM audit_log WHERE action = 'secrets.resealed' ORDER BY at")
        assert [json.loads(row[0])["dropped"] for row in entries] == [[], [1]]
        stack.cli("stop")
        stack.start()
        await stack.until_running("nora")
        await telegram.say(NORA, 1, "What is my favourite colour?", ANN)

        async def answers() -> list[str]:
            said = await telegram.transcript(NORA, 1)
            texts = [one["text"] for one in said if one["from"]["is_bot"]]
            return texts if len(texts) >= 2 else []

        assert "xyzzy" in (await eventually(answers, "a second answer"))[1]
        assert stack.cli("secrets", "reseal", "nobody", check=False).returncode == 4
