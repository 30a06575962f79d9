"""Waiting for flood control: one timer, each task for its own turn, nobody woken for nothing."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from telegram.error import RetryAfter

from botctl.bot.sending.flood import Flood, Rates
from botctl.bot.sending.flood_gate import FloodGate

FAST = Rates(bot_per_second=0, chat_per_second=50.0, chat_burst=1, group_per_minute=0)


def gate(rates: Rates = FAST) -> FloodGate:
    return FloodGate(Flood(rates), time.monotonic)


async def test_a_hundred_who_wait_go_one_by_one_in_their_order() -> None:
    one, times, order = gate(Rates(0, 500.0, 1, 0)), [], []

    async def send(number: int) -> None:
        await one.turn(1)
        times.append(time.monotonic())
        order.append(number)

    await asyncio.gather(*(send(number) for number in range(100)))
    assert order == list(range(100))
    assert times[-1] - times[0] >= 99 / 500 - 0.001
    assert sum(later - earlier < 0.0005 for earlier, later in pairwise(times)) < 50


async def test_who_is_cancelled_leaves_the_line() -> None:
    one = gate()
    assert one.take(1)
    given_up = asyncio.create_task(one.turn(1))
    waits = asyncio.create_task(one.turn(1))
    await asyncio.sleep(0)
    given_up.cancel()
    began = time.monotonic()
    await waits
    assert time.monotonic() - began < 0.04


async def test_patience_is_for_telegrams_word_and_for_the_line() -> None:
    one = gate()
    one.refused(1, 30.0)
    with pytest.raises(RetryAfter):
        await one.turn(1, patience=5.0)
    with pytest.raises(RetryAfter):
        await one.turn(1, items=0, patience=5.0)
    with pytest.raises(RetryAfter):
        await one.turn(1, patience=60.0, queueing=0.01)
    await one.turn(2, patience=0.0)


async def test_what_does_not_count_waits_only_where_telegram_says_so() -> None:
    one = gate(Rates(0, 0.001, 1, 0))
    assert one.take(1)
    assert not one.take(1)
    await one.turn(1, items=0)
    one.refused(1, 0.05)
    began = time.monotonic()
    await one.turn(1, items=0)
    assert time.monotonic() - began >= 0.05
