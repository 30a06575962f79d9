"""A replay that makes the same requests in another order gets each its own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from botctl.bot.exchange.asking import Asking
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.scope import Scope, current
from botctl.bot.live_limits import LiveLimits
from botctl.bot.vitals.health import Health
from botctl.errors import ProtocolError
from botctl.storage.requests import RequestState, StoredRequest


class Database:
    async def transaction(self, work: Any) -> Any:
        return await work(None)


class Requests:
    """Answers each request with its own id."""

    async def add(self, connection: Any, request_id: str, *about: Any) -> StoredRequest:
        return StoredRequest(request_id, RequestState.ANSWERED, 0.0, {"id": request_id}, "")


NOTHING: Any = None


async def ids(*asked: dict[str, Any]) -> list[str]:
    """What these requests, made side by side in one handling, get for an answer."""
    asking = Asking(
        Database(), Requests(), NOTHING, Publisher(7, NOTHING, (), lambda: 0.0), NOTHING, Health(), LiveLimits(1, 1),  # type: ignore[arg-type]
        wake=NOTHING, listen=lambda: None, changed=lambda: None, now=lambda: 0.0,
    )  # fmt: skip
    token = current.set(Scope(cause="update:1", trace_id="t"))
    try:
        answers = await asyncio.gather(*(asking.ask("shop", "price.quote", one, 5.0) for one in asked))
    finally:
        current.reset(token)
    return [answer["id"] for answer in answers]


async def test_requests_in_another_order_are_the_same_requests() -> None:
    tea, rum = await ids({"item": "tea"}, {"item": "rum"})
    assert await ids({"item": "rum"}, {"item": "tea"}) == [rum, tea]
    assert tea != rum


async def test_the_order_of_keys_makes_no_other_request_and_asking_twice_does() -> None:
    one, same, again = (*await ids({"a": 1, "b": {"c": 2, "d": 3}}), *await ids({"b": {"d": 3, "c": 2}, "a": 1}), "")
    assert one == same
    one, again = await ids({"a": 1}, {"a": 1})
    assert one != again
    assert await ids({"a": 1}, {"a": 1}) == [one, again]


async def test_data_that_is_no_json_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"price\.quote can't be encoded"):
        await ids({"a": object()})
