"""Whoever asks the API has to show its token, when it has one."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from botctl.api.token import TokenDemanded


def client(*headers: tuple[str, str]) -> httpx.AsyncClient:
    app = FastAPI()
    app.get("/secret")(lambda: {"told": True})
    app.add_middleware(TokenDemanded, token="a-token")
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://botctl", headers=list(headers))


async def test_who_shows_the_token_is_answered() -> None:
    async with client(("Authorization", "Bearer a-token")) as asking:
        assert (await asking.get("/secret")).json() == {"told": True}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer A-token")],
        [("Authorization", "a-token")],
        [("Authorization", "Bearer a-token"), ("Authorization", "Bearer another")],
    ],
)
@pytest.mark.parametrize("path", ["/secret", "/no-such-path", "/openapi.json"])
async def test_anybody_else_is_refused_and_learns_nothing(headers: list[tuple[str, str]], path: str) -> None:
    async with client(*headers) as asking:
        answer = await asking.get(path)
    assert answer.status_code == 401
    assert answer.json()["code"] == 5
    assert "told" not in answer.text
