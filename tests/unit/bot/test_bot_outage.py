"""Calls that failed wait for each other's news of Telegram, and not for the end of their own backoff."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from telegram.error import TelegramError

from botctl.bot.receiving.token_refusal import TokenRefusal
from botctl.bot.sending import outage as rules
from botctl.bot.sending.calling import Answered, Call, Caller
from botctl.bot.sending.flood import Flood, Rates
from botctl.bot.sending.flood_gate import FloodGate
from botctl.bot.sending.leak_guard import LeakGuard
from botctl.bot.sending.outage import LATER, LONGEST, SOON, Outage, longest
from botctl.bot.sending.send_states import Unrecorded
from botctl.bot.sending.telegram_request import TransportRequest
from botctl.bot.sending.transport import NotSentError, OutcomeUnknownError
from botctl.bus.backoff import Backoff
from support.stack import eventually


@pytest.mark.parametrize(
    ("waiting", "failing_for", "limit"),
    [(1, 0.0, SOON), (25, 59.0, SOON), (1, 61.0, LATER), (50, 10.0, 10.0), (10_000, 0.0, LONGEST)],
)
def test_a_call_alone_is_tried_soon_and_many_share_the_rate_of_a_few(
    waiting: int, failing_for: float, limit: float
) -> None:
    assert longest(waiting, failing_for) == limit


class Listening(Outage):
    """Notes what calls are ready to wait; Telegram answers others all the time."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.asked: list[tuple[float, float]] = []

    async def pause(self, delay: float, heed_after: float) -> bool:
        self.asked.append((delay, heed_after))
        return delay > heed_after


async def test_what_is_refused_although_others_are_answered_waits_longer_and_longer() -> None:
    now = [0.0]
    outage = Listening(lambda: now[0])
    patience = outage.patience()
    for at in range(0, 200, 5):
        now[0] = float(at)
        await patience.pause()
    heeds = sorted({heed for _, heed in outage.asked})
    assert heeds == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert max(delay for delay, _ in outage.asked[:12]) <= SOON
    assert SOON < max(delay for delay, _ in outage.asked[13:]) <= LATER


class Chats:
    """Nobody has moved."""

    def now(self, place: Any) -> Any:
        return place


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Its backoffs last for ever, so that it is the news that counts."""
    monkeypatch.setattr(Backoff, "next", lambda self: 600.0)
    monkeypatch.setattr(rules, "HEED_AFTER", 0.0)
    gate = FloodGate(Flood(Rates(0, 0, 1, 0)), lambda: 0.0)
    return Caller(gate, cast("Any", Chats()), TokenRefusal(), resend=True, clock=lambda: 0.0)


async def test_all_that_wait_go_on_as_soon_as_telegram_answers_one(caller: Caller) -> None:
    reached: list[int] = []
    away = True

    async def say(chat: int, error: TelegramError) -> object:
        async def perform(_: int | None) -> object:
            if away:
                raise error
            reached.append(chat)
            return object()

        return await caller.make(Call("sendMessage", chat, 1, f"update:{chat}"), perform, Unrecorded())

    errors = (NotSentError("no route"), OutcomeUnknownError("TimeoutError"), OutcomeUnknownError("HTTP 502"))
    waiting = [asyncio.create_task(say(chat, error)) for chat, error in enumerate(errors)]
    await eventually(lambda: caller._outage.waiting == 3, "all wait")
    away = False
    assert reached == []
    assert isinstance(await say(9, errors[0]), Answered)
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert all(isinstance(one, Answered) for one in outcomes)
    assert sorted(reached) == [0, 1, 2, 9]


class Recording:
    """A transport that tells how long it was to wait."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    async def request(self, method: str, url: str, *, data: Any = None, timeout: float) -> tuple[int, bytes]:
        self.timeouts.append(timeout)
        return 200, b"{}"


async def test_a_text_that_hangs_is_given_up_sooner_than_a_file_that_telegram_may_have_to_fetch() -> None:
    transport = Recording()
    request = TransportRequest(cast("Any", transport), cast("LeakGuard", None))
    for method in ("sendMessage", "answerCallbackQuery", "editMessageText", "sendPhoto", "getFile"):
        await request.do_request(f"http://telegram/bot1:x/{method}", "POST")
    assert transport.timeouts == [10.0, 10.0, 10.0, 20.0, 20.0]
