"""Routes of the audit log, and the middleware that has every command written into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Protocol
from urllib.parse import unquote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botctl.control.views import AuditBody, View

Word = Annotated[str | None, Query(max_length=200)]
When = Annotated[float | None, Query(ge=-1e11, le=1e11)]

_ABOUT = "botctl.audit"
_DETAILS = "botctl.audit.details"


class AuditService(Protocol):
    """What the routes need of `control`. Every method may raise a BotctlError."""

    async def search(self, bot: str | None, wanted: dict[str, Any], limit: int) -> AuditBody:
        """The latest entries that match, newest first."""
        ...

    async def follow(self, bot: str | None, wanted: dict[str, Any]) -> AsyncIterator[View]:
        """Entries as they come."""
        ...

    async def verify(self) -> AsyncIterator[View]:
        """Every seal, and last the report."""
        ...

    def note(self, operator: str, action: str, entity: str, name: str | None, after: dict[str, Any]) -> None:
        """Write down a command."""
        ...


def audit_routes(service: AuditService, lines: Callable[[AsyncIterator[Any]], AsyncIterator[bytes]]) -> APIRouter:
    """The routes that read; nothing changes the log."""
    router = APIRouter(prefix="/v1/audit")

    @router.get("")
    async def search(
        bot: Word = None,
        actor: Word = None,
        action: Word = None,
        entity: Word = None,
        text: Word = None,
        since: When = None,
        until: When = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
    ) -> AuditBody:
        """The latest entries that match, newest first; times in seconds since the epoch."""
        wanted = {"actor": actor, "action": action, "entity": entity, "text": text, "since": since, "until": until}
        return await service.search(bot, wanted, limit)

    @router.get("/follow")
    async def follow(bot: Word = None) -> StreamingResponse:
        """Entries as they come, as lines of JSON."""
        return StreamingResponse(lines(await service.follow(bot, {})), media_type="application/x-ndjson")

    @router.get("/verify")
    async def verify() -> StreamingResponse:
        """Recompute the chain: a line for each seal, and a last one with the report."""
        return StreamingResponse(lines(await service.verify()), media_type="application/x-ndjson")

    return router


def about(
    request: Request, *, bot: str | None = None, nothing: bool = False, details: dict[str, Any] | None = None
) -> None:
    """What a command's path doesn't tell: the bot, and details; or that it changes nothing, and is not to be noted."""
    request.scope[_ABOUT] = None if nothing else bot or ""
    request.scope[_DETAILS] = details or {}


class CommandsAudited:
    """ASGI middleware: notes who has commanded what, and whether it was accepted. No body is looked at."""

    def __init__(self, app: ASGIApp, service: AuditService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note what was commanded."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        status = 500
        scope[_ABOUT] = ""

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            if status not in (404, 405) and scope[_ABOUT] is not None:
                self._note(scope, status)

    def _note(self, scope: Scope, status: int) -> None:
        client = scope.get("client")
        parts = [unquote(part) for part in scope["path"].strip("/").split("/")[1:]]
        name: str | None = scope[_ABOUT] or None
        if len(parts) == 3 and parts[0] == "bots":
            _, name, verb = parts
            verb = "rotate-token" if verb == "token" else verb
        else:
            verb = "-".join(part for part in parts if part != "secrets")
        entity = f"bot {name}" if name else "fleet"
        after = {"accepted": status < 400} | ({} if status < 400 else {"status": status}) | scope.get(_DETAILS, {})
        self._service.note(client[0] if client else "", f"command.{verb}", entity, name, after)
