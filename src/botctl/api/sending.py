"""Routes for an operator's own sends and for webhooks. What is done is decided in `control`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from botctl.api.audit import about
from botctl.control.ingress.desk import WebhookBody
from botctl.control.tracing.send_desk import MOST_CHATS, SendBody
from botctl.control.views import CommandBody

ChatId = Annotated[int, Field(ge=-(2**63), lt=2**63)] | Annotated[str, Field(pattern=r"^@[A-Za-z]\w{3,31}$")]
OperationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


class SendRequest(BaseModel):
    """Body of `POST /v1/bots/NAME/send`. With an `id` of one's own the request may be repeated: it is done once."""

    model_config = ConfigDict(extra="forbid")

    chats: list[ChatId] = Field(min_length=1, max_length=MOST_CHATS)
    text: str = Field(max_length=100_000, repr=False)
    parse_mode: Literal["HTML", "MarkdownV2"] | None = None
    silent: bool = False
    id: OperationId | None = None


class RotateWebhookRequest(BaseModel):
    """Body of `POST /v1/secrets/rotate-webhook`."""

    model_config = ConfigDict(extra="forbid")

    bot: str


class SendService(Protocol):
    """What sends. Every method may raise a BotctlError."""

    async def send(
        self, bot: str, chats: Sequence[int | str], text: str, operation_id: str | None, more: dict[str, Any]
    ) -> SendBody:
        """Have a bot send a text."""
        ...

    async def sent(self, bot: str, ids: Sequence[str]) -> SendBody:
        """What came of operations."""
        ...


class WebhookService(Protocol):
    """What is known of webhooks. Every method may raise a BotctlError."""

    async def tell(self, *, probe: bool) -> WebhookBody:
        """The ingress and every bot with a webhook."""
        ...

    async def rotate(self, bot: str) -> CommandBody:
        """A new secret for one bot."""
        ...


def sending_routes(sends: SendService, webhooks: WebhookService) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1")

    @router.post("/bots/{name}/send", status_code=202)
    async def send(name: str, request: SendRequest) -> SendBody:
        """Have a bot send a text; it is kept until the bot has done so."""
        more: dict[str, Any] = {"parse_mode": request.parse_mode} if request.parse_mode is not None else {}
        more |= {"disable_notification": True} if request.silent else {}
        return await sends.send(name, request.chats, request.text, request.id, more)

    @router.get("/bots/{name}/sent")
    async def sent(
        name: str, id: Annotated[list[Annotated[str, Query(max_length=80)]], Query(min_length=1, max_length=100)]
    ) -> SendBody:
        """What came of what a bot was to send."""
        return await sends.sent(name, id)

    @router.get("/webhook")
    async def webhook(probe: Annotated[bool, Query()] = False) -> WebhookBody:
        """The ingress, and every bot with a webhook; with `probe`, whether it is reached by its public address."""
        return await webhooks.tell(probe=probe)

    @router.post("/secrets/rotate-webhook")
    async def rotate_webhook(request: RotateWebhookRequest, http: Request) -> CommandBody:
        """A new webhook secret for one bot; the old one is accepted until Telegram uses the new one."""
        about(http, bot=request.bot)
        return await webhooks.rotate(request.bot)

    return router
