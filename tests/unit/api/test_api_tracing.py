"""Routes of traces and dead letters: what reaches the desks, who may, and that commands are audited."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from botctl.api.app import create_app
from botctl.control.tracing.views import (
    ChatBody,
    DeadLetterBody,
    DeadLettersBody,
    DeadLettersDone,
    DeadLetterView,
    TraceBody,
)
from botctl.errors import BotctlError, NoSuchBotError


class Desks:
    """Both desks and the audit log in one; raises `failure` if there is one."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.noted: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    def note(self, *what: Any) -> None:
        self.noted.append(what)

    async def trace(self, asked: str, bot: str | None, *, text: bool, operator: str) -> TraceBody:
        self._note("trace", asked, bot, text, operator)
        return TraceBody(asked=asked, now=0.0)

    async def chat(self, bot: str, chat_id: int, limit: int, *, text: bool, operator: str) -> ChatBody:
        self._note("chat", bot, chat_id, limit, text, operator)
        return ChatBody(bot=bot, chat_id=chat_id, now=0.0)

    async def list(
        self, bot: str | None, since: float | None, kind: str | None, dropped: bool, limit: int
    ) -> DeadLettersBody:
        self._note("list", bot, since, kind, dropped, limit)
        return DeadLettersBody()

    async def show(self, letter_id: str, *, text: bool, operator: str) -> DeadLetterBody:
        self._note("show", letter_id, text, operator)
        return DeadLetterBody(letter=DeadLetterView(id=letter_id, bot="nora", at=0.0))

    async def retry(self, ids: Any, bot: str | None, *, operator: str) -> DeadLettersDone:
        self._note("retry", ids, bot, operator)
        return DeadLettersDone(done=ids)

    async def drop(self, ids: Any, bot: str | None, *, operator: str) -> DeadLettersDone:
        self._note("drop", ids, bot, operator)
        return DeadLettersDone(done=ids)


@pytest.fixture
def desks() -> Desks:
    return Desks()


def _client(desks: Desks, **options: Any) -> httpx.AsyncClient:
    service: Any = None
    app = create_app(service, audit=desks, desks=(desks, desks), **options)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("ann", 0))
    return httpx.AsyncClient(transport=transport, base_url="http://botctl")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/trace?asked=5&bot=nora", ("trace", "5", "nora", False, "ann")),
        ("/v1/trace?asked=event:x&text=true", ("trace", "event:x", None, True, "ann")),
        ("/v1/trace/chat?bot=nora&chat_id=-5&limit=3", ("chat", "nora", -5, 3, False, "ann")),
        ("/v1/dead-letters", ("list", None, None, None, False, 100)),
        (
            "/v1/dead-letters?bot=nora&since=5&kind=bus&dropped=true&limit=7",
            ("list", "nora", 5.0, "bus", True, 7),
        ),
        ("/v1/dead-letters/one?id=nora/12&text=true", ("show", "nora/12", True, "ann")),
    ],
)
async def test_questions_reach_the_desks_and_are_no_commands(desks: Desks, path: str, asked: tuple[Any, ...]) -> None:
    async with _client(desks) as client:
        assert (await client.get(path)).status_code == 200
    assert desks.asked == [asked]
    assert desks.noted == []


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_commands_reach_them_and_are_audited_refused_ones_too(desks: Desks, verb: str) -> None:
    async with _client(desks) as client:
        assert (await client.post(f"/v1/dead-letters/{verb}", json={"ids": ["nora/12"]})).status_code == 200
        desks.failure = NoSuchBotError("no bot is called x")
        assert (await client.post(f"/v1/dead-letters/{verb}", json={"bot": "x"})).status_code == 404
    assert desks.asked == [(verb, ["nora/12"], None, "ann"), (verb, [], "x", "ann")]
    assert [entry[1] for entry in desks.noted] == [f"command.dead-letters-{verb}"]


@pytest.mark.parametrize(
    "path",
    ["/v1/trace", "/v1/trace?asked=", "/v1/trace/chat?bot=a", "/v1/dead-letters?kind=x", "/v1/dead-letters?limit=0"],
)
async def test_questions_that_make_no_sense_are_refused(desks: Desks, path: str) -> None:
    async with _client(desks) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, 2)
    assert desks.asked == []


@pytest.mark.parametrize("path", ["/v1/trace?asked=5", "/v1/dead-letters", "/v1/dead-letters/one?id=5"])
async def test_who_may_only_look_and_who_has_no_token_is_told_nothing(desks: Desks, path: str) -> None:
    async with _client(desks, commands=False) as client:
        assert (await client.get(path)).status_code == 404
    async with _client(desks, token="t") as client:
        assert (await client.get(path)).status_code == 401
    assert desks.asked == []


async def test_what_is_unknown_carries_its_hint(desks: Desks) -> None:
    desks.failure = BotctlError("nora has nothing of 5", hint="look elsewhere")
    async with _client(desks) as client:
        answer = await client.get("/v1/trace?asked=5")
    assert answer.json() == {"error": "nora has nothing of 5", "hint": "look elsewhere", "code": 1}
