"""What the poller says while Telegram won't let it poll; a bot that says why it isn't ready is not ended for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from botctl.bot.receiving.poller import Poller
from botctl.bot.vitals.health import Health

OTHER = "Conflict: terminated by other getUpdates request"


class Telegram:
    """Gives its answers one after another, then nothing any more; time passes only between them."""

    def __init__(self, *answers: tuple[int, dict[str, Any]], step: float) -> None:
        self.answers = list(answers)
        self.now, self._step = 0.0, step
        self.told: list[str] = []
        self.exhausted = asyncio.Event()

    async def request(self, verb: str, url: str, **_: Any) -> tuple[int, bytes]:
        if not self.answers:
            self.exhausted.set()
            await asyncio.Event().wait()
        self.now += self._step
        status, body = self.answers.pop(0)
        return status, json.dumps(body).encode()


def refusal(status: int, description: str, **parameters: Any) -> tuple[int, dict[str, Any]]:
    return status, {"ok": False, "error_code": status, "description": description, "parameters": parameters}


EMPTY: tuple[int, dict[str, Any]] = (200, {"ok": True, "result": []})


async def told(monkeypatch: pytest.MonkeyPatch, telegram: Telegram, ready_timeout: float) -> tuple[str, list[float]]:
    """The health's reason in the end, and how long it slept."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("botctl.bot.receiving.poller.asyncio.sleep", no_sleep)
    health = Health()
    intake: Any = None
    transport: Any = telegram
    poller = Poller(
        transport, "http://t", intake, health,
        on_ready=lambda: None, clock=lambda: telegram.now, ready_timeout=ready_timeout,
    )  # fmt: skip
    task = asyncio.create_task(poller.run())
    await asyncio.wait_for(telegram.exhausted.wait(), 5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return health.reason, slept


@pytest.mark.parametrize(
    ("before", "conflicts", "ready_timeout", "says"),
    [
        ([EMPTY], 30, 4.0, False),  # after a kill it may be our own old poll
        ([EMPTY], 31, 60.0, True),
        ([], 30, 60.0, False),
        ([], 2, 4.0, False),
        ([], 3, 4.0, True),  # it would be ended as never ready, which would help nobody
    ],
)
async def test_a_conflict_is_told_after_half_a_minute_or_before_the_time_to_get_ready_is_over(
    monkeypatch: pytest.MonkeyPatch, before: list[Any], conflicts: int, ready_timeout: float, says: bool
) -> None:
    telegram = Telegram(*before, *[refusal(409, OTHER)] * conflicts, step=1.0)
    reason, slept = await told(monkeypatch, telegram, ready_timeout)
    assert (reason == f"another process polls this bot ({OTHER})") is says
    assert all(0.0 < seconds <= 0.1 * 2**turn for turn, seconds in enumerate(slept)), "from 100 ms, doubling"
    assert max(slept) <= 5.0


async def test_a_success_ends_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    telegram = Telegram(*[refusal(409, OTHER)] * 40, EMPTY, refusal(409, OTHER), step=1.0)
    assert (await told(monkeypatch, telegram, 60.0))[0] == ""


@pytest.mark.parametrize(
    ("before", "wait", "says"),
    [
        ([EMPTY], 1, ""),
        ([EMPTY], 60, "telegram asks us not to poll for 60 s"),
        ([], 1, "telegram asks us not to poll for 1 s"),
    ],
)
async def test_flood_control_is_obeyed_and_told_when_it_is_long_or_keeps_the_bot_from_getting_ready(
    monkeypatch: pytest.MonkeyPatch, before: list[Any], wait: int, says: str
) -> None:
    telegram = Telegram(*before, refusal(429, "Too Many Requests", retry_after=wait), step=1.0)
    assert await told(monkeypatch, telegram, 60.0) == (says, [float(wait)])
