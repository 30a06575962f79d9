"""The webhook of a bot that has left the fleet is taken away: once, surely, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from botctl.control.ingress import leaving
from botctl.fleet import BotSpec
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess, start_sandbox
from support import stack as stacks
from support.control_stage import Control
from support.fleet_stage import Stage, bot


@pytest.fixture(scope="module")
def servers() -> Iterator[SandboxProcess]:
    running = start_sandbox("--any-bot")
    yield running
    running.stop()


@pytest.fixture
async def telegram(servers: SandboxProcess) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(servers.telegram) as client:
        yield client
        await client.clear_faults()


@pytest.fixture
async def control(stage: Stage, tmp_path: Path, servers: SandboxProcess) -> AsyncIterator[Control]:
    made = Control(stage, tmp_path, servers.telegram)
    yield made
    await made.end()


async def ask(control: Control, spec: BotSpec, method: str, **data: str) -> Any:
    async with httpx.AsyncClient() as client:
        root = f"{control.telegram.rstrip('/')}/bot{spec.token.get_secret_value()}"
        return (await client.post(f"{root}/{method}", data=data)).json()["result"]


async def hooked(control: Control) -> BotSpec:
    """One that has told Telegram of its webhook, and what takes that away is kept."""
    spec = bot("a", updates="webhook")
    await control.apply(spec)
    target = control.told(spec.bot_id)
    assert target is not None
    await ask(control, spec, "setWebhook", url=target.url)
    await stacks.eventually(lambda: kept(control, spec), "what takes its webhook away is kept")
    return spec


def kept(control: Control, spec: BotSpec) -> bool:
    secret = control.vault.webhooks.get(spec.bot_id)
    return secret is not None and secret.token == spec.token.get_secret_value()


async def taken(control: Control, spec: BotSpec) -> bool:
    return not (await ask(control, spec, "getWebhookInfo"))["url"]


async def test_what_waits_stays_at_telegram(control: Control, telegram: SandboxClient) -> None:
    spec = await hooked(control)
    await telegram.say(spec.bot_id, 5, "hello?")
    await control.apply(bot("b"))
    await stacks.eventually(lambda: taken(control, spec), "it is taken away")
    assert (await ask(control, spec, "getWebhookInfo"))["pending_update_count"] == 1
    await stacks.eventually(lambda: not kept(control, spec), "its token is kept no longer")


async def test_one_that_left_while_the_daemon_was_down_is_seen_to_by_the_next(control: Control) -> None:
    spec = await hooked(control)
    stored = await control.stage.rows(f"SELECT encode(sealed, 'escape') FROM bot_secrets WHERE bot_id = {spec.bot_id}")
    assert spec.token.get_secret_value() not in str(stored)
    await control.end()
    control.begin()  # knows nothing but what is stored
    await control.apply(bot("b"))
    await stacks.eventually(lambda: taken(control, spec), "it is taken away")


async def test_a_try_that_failed_is_made_again(
    control: Control, telegram: SandboxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "LONGEST_WAIT", 0.0)
    spec = await hooked(control)
    await telegram.inject_fault("deleteWebhook", bot_id=spec.bot_id, status=502)
    await telegram.inject_fault("getWebhookInfo", bot_id=spec.bot_id, cut=True)
    await control.apply(bot("b"))

    async def deleted() -> bool:
        return len(await telegram.calls(bot_id=spec.bot_id, method="deleteWebhook")) == 2

    await stacks.eventually(deleted, "it is tried again")
    assert await taken(control, spec)


async def test_somebody_elses_webhook_is_left_alone(control: Control, telegram: SandboxClient) -> None:
    spec = await hooked(control)
    # The bot has moved to another installation behind the same address.
    url = f"https://bots.example.org/t/{spec.bot_id}?v=0123456789ab"
    await ask(control, spec, "setWebhook", url=url)
    await control.apply(bot("b"))
    await stacks.eventually(lambda: not kept(control, spec), "it has been looked at")
    assert (await ask(control, spec, "getWebhookInfo"))["url"] == url
    assert not await telegram.calls(bot_id=spec.bot_id, method="deleteWebhook")
