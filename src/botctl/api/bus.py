"""Routes of the bus: grants to programs outside, replays, lags. What is asked is done by a `BusService`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from botctl.api.audit import about
from botctl.control.bus.desk import ReplayWish
from botctl.control.bus.views import GrantBody, GrantsBody, ReplayLine
from botctl.control.views import BusView, CommandBody

Name = Annotated[str, Field(max_length=64)]
EntryId = Annotated[str, Field(pattern=r"^[0-9]{1,20}-[0-9]{1,20}$")]
When = Annotated[float, Field(ge=0, le=1e11)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GrantRequest(_Request):
    """Body of `POST /v1/events/grant`. `password_sha256` in hexadecimal digits: the password itself stays with whoever
    asks. `since` in seconds since the epoch, with `start` `since`.
    """

    name: Name
    logs: list[Literal["bot", "system", "user"]]
    group: Name | None = None
    password_sha256: SecretStr
    start: Literal["end", "beginning", "since"] = "end"
    since: When | None = None


class RevokeRequest(_Request):
    """Body of `POST /v1/events/revoke`."""

    name: Name


class ReplayRequest(_Request):
    """Body of `POST /v1/events/replay`. Times in seconds since the epoch; `first` and `last` are ids of entries."""

    to: Name
    since: When | None = None
    first: EntryId | None = None
    until: When | None = None
    last: EntryId | None = None
    type: Annotated[str, Field(max_length=100)] | None = None
    dry_run: bool = False


class BusService(Protocol):
    """What the routes need of `control`. Every method may raise a BotctlError."""

    async def lag(self) -> BusView:
        """How far every reader is."""
        ...

    async def grants(self) -> GrantsBody:
        """Every grant that stands."""
        ...

    async def grant(
        self, name: str, logs: list[str], group: str | None, password_sha256: str, since: float | None, start: str
    ) -> GrantBody:
        """Let a program read logs."""
        ...

    async def revoke(self, name: str) -> str:
        """Take a grant back; what there is to say."""
        ...

    async def replay(self, wish: ReplayWish) -> AsyncIterator[ReplayLine]:
        """Give events once more."""
        ...


def bus_routes(service: BusService, lines: Callable[[AsyncIterator[Any]], AsyncIterator[bytes]]) -> APIRouter:
    """The routes; they belong beside commands."""
    router = APIRouter(prefix="/v1/events")

    @router.get("/lag")
    async def lag() -> BusView:
        """How far every reader of the bus is behind."""
        return await service.lag()

    @router.get("/grants")
    async def grants() -> GrantsBody:
        """Programs outside that may read logs."""
        return await service.grants()

    @router.post("/grant")
    async def grant(request: GrantRequest, http: Request) -> GrantBody:
        """Let a program outside read logs."""
        about(http, details={"name": request.name, "logs": request.logs, "group": request.group or request.name})
        return await service.grant(
            request.name,
            [*request.logs],
            request.group,
            request.password_sha256.get_secret_value(),
            request.since,
            request.start,
        )

    @router.post("/revoke")
    async def revoke(request: RevokeRequest, http: Request) -> CommandBody:
        """Take a grant back."""
        about(http, details={"name": request.name})
        return CommandBody(message=await service.revoke(request.name))

    @router.post("/replay")
    async def replay(request: ReplayRequest, http: Request) -> StreamingResponse:
        """Give events of the logs once more to one consumer, as lines of JSON that say how far it is."""
        wish = ReplayWish(**request.model_dump())
        bot = None if ":" in request.to else request.to
        about(http, bot=bot, nothing=request.dry_run, details=request.model_dump(exclude_none=True))
        return StreamingResponse(lines(await service.replay(wish)), media_type="application/x-ndjson")

    return router
