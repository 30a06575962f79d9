"""Following messages on a whole stack: tried, answered, sent, made something of by others; dead letters worked off."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from botctl.sandbox.client import SandboxClient
from support.stack import Stack, eventually, new_stack, token

pytestmark = pytest.mark.e2e

CLERK, COOK = 7400000101, 7400000102
ADA = {"id": 601, "first_name": "Ada"}

HANDLERS = """
import asyncio
from pathlib import Path
from telegram.ext import CommandHandler

HERE, STUMBLED = Path(__file__).parent, set()

def register(app, bot):
    async def order(update, context):
        await update.message.reply_text("noted")
        if update.update_id not in STUMBLED:
            STUMBLED.add(update.update_id)
            raise ValueError("stumbled over a secret cake")
        await bot.publish("clerk.ordered", {"chat_id": update.message.chat_id})

    async def slow(update, context):
        await update.message.reply_text("one moment")
        while (HERE / "hold").exists():
            await asyncio.sleep(0.01)
        await update.message.reply_text("here it is")

    async def poison(update, context):
        await update.message.reply_text("let me see")
        if not (HERE / "mended").exists():
            raise KeyError("poison")
        await update.message.reply_text("mended")

    for handler in (order, slow, poison):
        app.add_handler(CommandHandler(handler.__name__, handler))

def register_cook(app, bot):
    @bot.on_event("clerk.ordered")
    async def cook(event):
        await app.bot.send_message(event.data["chat_id"], "cooked")
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with new_stack() as stack:
        (stack.folder / "following_handlers.py").write_text(HANDLERS)
        settings = stack.folder / "botctl.toml"
        settings.write_text('[prices."model-x"]\ninput = 1.0\noutput = 10.0\n')
        stack.environment["BOTCTL_CONFIG"] = str(settings)
        stack.write_fleet(
            {
                "name": "clerk",
                "token": token(CLERK),
                "handlers": "following_handlers:register",
                "assistant": {"instructions": "You are a clerk.", "model": "model-x"},
                "limits": {"attempts": 2},
            },
            {
                "name": "cook",
                "token": token(COOK),
                "handlers": "following_handlers:register_cook",
                "subscribe": ["clerk.*"],
            },
        )
        stack.start()
        yield stack


@pytest_asyncio.fixture
async def fleet(running: Stack) -> AsyncIterator[Stack]:
    await running.until_running("clerk", "cook")
    async with running.sandbox() as telegram:
        await telegram.set_chat(COOK, 601)
    yield running


def _traced(stack: Stack, *arguments: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(stack.cli("trace", *arguments, "--json").stdout)
    return body


async def _until(stack: Stack, update_id: int, state: str) -> dict[str, Any]:
    """The trace of an update of the clerk, once it is in this state and nothing of it is planned any more."""

    def settled() -> dict[str, Any] | None:
        done = stack.cli("trace", str(update_id), "--bot", "clerk", "--json", check=False)
        if done.returncode:
            return None
        root: dict[str, Any] = json.loads(done.stdout)["roots"][0]
        open_ = any(send["state"] in ("planned", "sending") for send in root["sends"])
        return root if root["state"] == state and not open_ else None

    found: dict[str, Any] = await eventually(settled, f"update {update_id} is {state}")
    return found


async def test_a_message_that_stumbled_is_followed_through_both_bots(fleet: Stack) -> None:
    async with fleet.sandbox() as telegram:
        said = await telegram.say(CLERK, 601, "/order", ADA)
        assert await telegram.wait_for_reply(COOK, 601, wait=30)
    root = await _until(fleet, said.update_id, "done")
    assert [(one["attempt"], one["outcome"]) for one in root["history"]] == [(1, "failed")]
    assert [(one["method"], one["state"], one["attempts"]) for one in root["sends"]] == [("sendMessage", "sent", 1)]

    def cooked() -> dict[str, Any] | None:
        events = _traced(fleet, root["trace_id"])["roots"][0]["events"]
        event = next(one for one in events if one["type"] == "clerk.ordered")
        done = [one for one in event["deliveries"] if one["state"] == "done" and event["relayed_at"]]
        return done[0] if done else None

    reaction = await eventually(cooked, "the cook's part is told")
    assert (reaction["bot"], reaction["trace_id"]) == ("cook", root["trace_id"])
    assert [(one["chat_id"], one["state"]) for one in reaction["sends"]] == [(601, "sent")]
    at = [root["received_at"], root["history"][0]["begun_at"], root["history"][0]["ended_at"], root["begun_at"],
          root["ended_at"], reaction["received_at"], reaction["begun_at"], reaction["ended_at"]]  # fmt: skip
    assert at == sorted(at)
    told = fleet.cli("trace", root["trace_id"]).stdout
    for words in ("attempt 1 failed: ValueError", "attempt 2 begins", "→ cook · event:", "sendMessage to chat 601"):
        assert words in told
    assert "/order" not in told
    assert "/order" in fleet.cli("trace", root["trace_id"], "--text").stdout

    def audited() -> bool:
        return "read.text" in fleet.cli("audit", "search", "--action", "read.text").stdout

    await eventually(audited, "who was shown texts stands in the audit log")


async def test_an_answer_that_needed_retries_tells_tokens_and_cost(fleet: Stack) -> None:
    async with SandboxClient(fleet.urls["completion"].removesuffix("/v1")) as completion:
        await completion.inject_fault("responses", status=500, times=1)
    async with fleet.sandbox() as telegram:
        said = await telegram.say(CLERK, 602, "Hello there", {"id": 602, "first_name": "Ben"})
        assert await telegram.wait_for_reply(CLERK, 602, wait=30)
    root = await _until(fleet, said.update_id, "done")
    (completion_,) = root["completions"]
    assert (completion_["model"], completion_["retries"], completion_["reused"]) == ("model-x", 1, False)
    assert completion_["cost"] == pytest.approx(
        (completion_["input_tokens"] + 10 * completion_["output_tokens"]) / 1_000_000
    )
    assert root["written_at"] <= root["received_at"] <= root["begun_at"] <= completion_["ended_at"] <= root["ended_at"]
    lines = fleet.cli("trace", "--chat", "602", "--bot", "clerk").stdout
    assert str(said.update_id) in lines

    def counted() -> bool:
        return "botctl_completion_cost_total{" in fleet.metrics()

    await eventually(counted, "the cost is a metric")


async def test_a_kill_in_between_shows_as_an_attempt_of_its_own(fleet: Stack) -> None:
    (fleet.folder / "hold").touch()
    async with fleet.sandbox() as telegram:
        said = await telegram.say(CLERK, 603, "/slow", {"id": 603, "first_name": "Max"})
        assert await telegram.wait_for_reply(CLERK, 603, wait=30)
        during = _traced(fleet, str(said.update_id), "--bot", "clerk")["roots"][0]
        assert (during["state"], during["waits"].partition(" for ")[0]) == ("new", "is being handled")
        behind = await telegram.say(CLERK, 603, "Hello?", {"id": 603, "first_name": "Max"})

        def waits() -> bool:
            done = fleet.cli("trace", str(behind.update_id), "--bot", "clerk", check=False)
            return f"waits for its chat's earlier update {said.update_id}" in done.stdout

        await eventually(waits, "the next one waits for this one")
        os.kill(fleet.bot("clerk")["pid"], signal.SIGKILL)
        (fleet.folder / "hold").unlink()
        root = await _until(fleet, said.update_id, "done")
    assert [(one["attempt"], one["outcome"]) for one in root["history"]] == [(1, "interrupted")]
    assert [one["state"] for one in root["sends"]] == ["sent", "sent"]
    assert [one["attempts"] for one in root["sends"]] == [1, 1]
    assert "attempt 1 was interrupted" in fleet.cli("trace", str(said.update_id), "--bot", "clerk").stdout


async def test_a_poison_becomes_a_dead_letter_is_mended_retried_and_answered(fleet: Stack) -> None:
    async with fleet.sandbox() as telegram:
        said = await telegram.say(CLERK, 604, "/poison", {"id": 604, "first_name": "Eve"})
        root = await _until(fleet, said.update_id, "dead")
        assert [one["outcome"] for one in root["history"]] == ["failed", "given up"]
        (letter,) = json.loads(fleet.cli("dead-letters", "list", "--bot", "clerk", "--json").stdout)["letters"]
        assert (letter["chat_id"], letter["attempts"], letter["can_retry"]) == (604, 2, True)
        shown = fleet.cli("dead-letters", "show", letter["id"]).stdout
        assert "KeyError: <8 characters>" in shown, "what it says may be somebody's words"
        assert "KeyError: 'poison'" in fleet.cli("dead-letters", "show", letter["id"], "--text").stdout
        assert "following_handlers.py" in shown, "the traceback"
        assert "/poison" not in shown
        await eventually(lambda: fleet.bot("clerk")["dead_letters"] == 1, "status tells of it")
        assert "dead letter waits for you" in fleet.cli("why", "clerk").stdout
        assert 'botctl_bot_dead_letters_waiting{bot="clerk"} 1.0' in fleet.metrics()

        (fleet.folder / "mended").touch()
        last = max(event.seq for event in await telegram.events(CLERK))
        assert fleet.cli("dead-letters", "retry", letter["id"]).stdout.split() == [letter["id"]]
        reply = await telegram.wait_for_reply(CLERK, 604, after=last, wait=30)
        assert reply is not None
        assert reply.text == "mended"
        texts = [one["text"] for one in await telegram.transcript(CLERK, 604) if one.get("from", {}).get("is_bot")]
        assert texts == ["let me see", "mended"], "what was sent is not sent twice"
    root = await _until(fleet, said.update_id, "done")
    assert [one["outcome"] for one in root["history"]] == ["failed", "given up", "retried"]
    assert fleet.cli("dead-letters", "retry", letter["id"], check=False).returncode == 1
    await eventually(lambda: fleet.bot("clerk")["dead_letters"] == 0, "none waits any more")
    metrics = fleet.metrics()
    assert 'botctl_bot_dead_letters_waiting{bot="clerk"} 0.0' in metrics
    assert 'botctl_dead_letters_total{bot="clerk"} 1.0' in metrics


async def test_what_is_not_there_is_told_with_the_contracts_exit_codes(fleet: Stack) -> None:
    for arguments, code in (
        (("trace", "1", "--bot", "clerk"), 1),
        (("trace", "1", "--bot", "nobody"), 4),
        (("trace", "0" * 16), 1),
        (("dead-letters", "list", "--bot", "nobody"), 4),
        (("dead-letters", "show", "clerk/999999"), 1),
        (("dead-letters", "drop", "clerk/999999", "--yes"), 1),
    ):
        assert fleet.cli(*arguments, check=False).returncode == code, arguments
    folder = Path(fleet.folder / "nowhere")
    assert fleet.cli("trace", "1", "--data-dir", str(folder), check=False).returncode == 3
