"""Routes that follow one message, and those of dead letters. What is shown and done is decided in `control`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from botctl.api.audit import about
from botctl.control.tracing.views import ChatBody, DeadLetterBody, DeadLettersBody, DeadLettersDone, TraceBody

Word = Annotated[str, Query(min_length=1, max_length=250)]
MaybeWord = Annotated[str | None, Query(min_length=1, max_length=250)]
Text = Annotated[bool, Query(description="Show texts too; who asks for them is written into the audit log.")]


class LettersRequest(BaseModel):
    """Which dead letters: these, or, without ids, all of a bot."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Annotated[str, Field(min_length=1, max_length=250)]] = Field(default_factory=list, max_length=1000)
    bot: str | None = Field(default=None, min_length=1, max_length=250)


class TracingService(Protocol):
    """What follows messages. Every method may raise a BotctlError."""

    async def trace(self, asked: str, bot: str | None, *, text: bool, operator: str) -> TraceBody:
        """The way of a cause or of a trace."""
        ...

    async def chat(self, bot: str, chat_id: int, limit: int, *, text: bool, operator: str) -> ChatBody:
        """The latest messages of a chat."""
        ...


class DeadLetterService(Protocol):
    """What is done about dead letters. Every method may raise a BotctlError."""

    async def list(
        self, bot: str | None, since: float | None, kind: str | None, dropped: bool, limit: int
    ) -> DeadLettersBody:
        """The newest first."""
        ...

    async def show(self, letter_id: str, *, text: bool, operator: str) -> DeadLetterBody:
        """One with all that is kept of it."""
        ...

    async def retry(self, ids: Sequence[str], bot: str | None, *, operator: str) -> DeadLettersDone:
        """Have these handled again, or all of a bot."""
        ...

    async def drop(self, ids: Sequence[str], bot: str | None, *, operator: str) -> DeadLettersDone:
        """Set these aside for good, or all of a bot."""
        ...


def trace_routes(traces: TracingService, letters: DeadLetterService) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1")

    @router.get("/trace")
    async def trace(http: Request, asked: Word, bot: MaybeWord = None, text: Text = False) -> TraceBody:
        """The way of one message: the id of an update, a trace id, `event:<id>`, `job:<name>:<due>`, `op:<id>`."""
        return await traces.trace(asked, bot, text=text, operator=_operator(http))

    @router.get("/trace/chat")
    async def chat(
        http: Request,
        bot: Word,
        chat_id: Annotated[int, Query(ge=-(2**63), lt=2**63)],
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
        text: Text = False,
    ) -> ChatBody:
        """The latest messages of a chat, the newest first."""
        return await traces.chat(bot, chat_id, limit, text=text, operator=_operator(http))

    @router.get("/dead-letters")
    async def dead_letters(
        bot: MaybeWord = None,
        since: Annotated[float | None, Query(ge=0, le=1e11)] = None,
        kind: Annotated[Literal["update", "event", "job", "op", "bus"] | None, Query()] = None,
        dropped: Annotated[bool, Query()] = False,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> DeadLettersBody:
        """What was given up, the newest first; `since` in seconds since the epoch."""
        return await letters.list(bot, since, kind, dropped, limit)

    @router.get("/dead-letters/one")
    async def dead_letter(http: Request, id: Word, text: Text = False) -> DeadLetterBody:
        """One of them, with all that is kept of it."""
        return await letters.show(id, text=text, operator=_operator(http))

    @router.post("/dead-letters/retry")
    async def retry(request: LettersRequest, http: Request) -> DeadLettersDone:
        """Have them handled again."""
        about(http, bot=request.bot)
        return await letters.retry(request.ids, request.bot, operator=_operator(http))

    @router.post("/dead-letters/drop")
    async def drop(request: LettersRequest, http: Request) -> DeadLettersDone:
        """Set them aside for good."""
        about(http, bot=request.bot)
        return await letters.drop(request.ids, request.bot, operator=_operator(http))

    return router


def _operator(http: Request) -> str:
    return http.client.host if http.client is not None else ""
