"""The FastAPI application. Knows how to speak HTTP; what is asked of it is done by a `ControlService`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from botctl.api.audit import AuditService, CommandsAudited, about, audit_routes
from botctl.api.bus import BusService, bus_routes
from botctl.api.models import (
    ApplyRequest,
    ErrorBody,
    LoginRequest,
    RolloutRequest,
    RotateBotRequest,
    RotateCredentialsRequest,
    RotateMasterRequest,
    TokenRequest,
)
from botctl.api.sending import SendService, WebhookService, sending_routes
from botctl.api.service import ControlService, Verb
from botctl.api.token import TokenDemanded
from botctl.api.tracing import DeadLetterService, TracingService, trace_routes
from botctl.control.views import (
    AppliedBody,
    CommandBody,
    DeathsBody,
    HealthBody,
    LoginBody,
    MasterBody,
    RolloutBody,
    RunsBody,
    SecretsBody,
    StatusBody,
    View,
)
from botctl.errors import BotctlError, ConflictError, ExitCode

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATUS = {
    ExitCode.FAILED: 503,
    ExitCode.USAGE: 422,
    ExitCode.NO_DAEMON: 503,
    ExitCode.NO_SUCH_BOT: 404,
    ExitCode.REFUSED: 403,
}


def create_app(
    service: ControlService,
    *,
    version: str = "0",
    commands: bool = True,
    token: str = "",
    audit: AuditService | None = None,
    desks: tuple[TracingService, DeadLetterService] | None = None,
    bus: BusService | None = None,
    sending: tuple[SendService, WebhookService] | None = None,
) -> FastAPI:
    """The application; `commands=False` leaves only what reads: status, health, metrics.

    With a token, whoever asks anything has to show it (`Authorization: Bearer`). One with commands belongs on a socket
    that only the operator can open, and has a token, which the operator's bots can't read although they may be of the
    same uid. With `audit`, every command is written down there, and its log can be read. With `desks`, messages can be
    followed and dead letters worked off: only beside commands, for it may show what people wrote.
    With `bus`, programs outside are granted logs, and events given again. With `sending`, bots send what an operator
    says, and webhooks are told of.
    """
    app = FastAPI(title="botctl", version=version, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    if audit is not None:
        app.add_middleware(CommandsAudited, service=audit)
        app.include_router(audit_routes(audit, _lines))
    if token:
        app.add_middleware(TokenDemanded, token=token)
    if desks is not None and commands:
        app.include_router(trace_routes(*desks))
    if bus is not None and commands:
        app.include_router(bus_routes(bus, _lines))
    if sending is not None and commands:
        app.include_router(sending_routes(*sending))
    app.include_router(_reading(service))
    if commands:
        app.include_router(_commanding(service))
    app.add_exception_handler(BotctlError, _botctl_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    return app


def _reading(service: ControlService) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/status")
    async def status() -> StatusBody:
        """The fleet as the supervisor sees it."""
        return await service.status()

    @router.get("/healthz")
    async def healthz(response: Response) -> HealthBody:
        """200 when `control` can do its work and no breaker is open, else 503 and what is wrong."""
        body = await service.health()
        response.status_code = 200 if body.ok else 503
        return body

    @router.get("/metrics")
    async def metrics() -> Response:
        """The Prometheus exposition."""
        return Response(await service.metrics(), media_type=METRICS_TYPE)

    return router


def _commanding(service: ControlService) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/apply")
    async def apply(request: ApplyRequest, http: Request) -> AppliedBody:
        """Make this the wanted fleet."""
        about(http, nothing=request.dry_run)
        return await service.apply(
            request.fleet, fleet_path=request.fleet_path, fleet_env=request.fleet_env, dry_run=request.dry_run
        )

    @router.post("/reload")
    async def reload() -> AppliedBody:
        """Read the fleet file again and apply it."""
        return await service.reload()

    @router.get("/secrets")
    async def secrets() -> SecretsBody:
        """Which keys there are, and of what age; no secret."""
        return await service.secrets()

    @router.post("/secrets/rotate-master")
    async def rotate_master(request: RotateMasterRequest) -> MasterBody:
        """A new master key, or the end of a rotation that was begun."""
        return await service.rotate_master(request.keys.get_secret_value())

    @router.post("/secrets/rotate-bot")
    async def rotate_bot(request: RotateBotRequest, http: Request) -> CommandBody:
        """A new data key for one bot."""
        about(http, bot=request.bot)
        return await service.rotate_bot(request.bot)

    @router.post("/secrets/rotate-credentials")
    async def rotate_credentials(request: RotateCredentialsRequest, http: Request) -> CommandBody:
        """New passwords for the database and Redis, of one bot or of all."""
        about(http, bot=request.bot)
        return await service.rotate_credentials(request.bot)

    @router.post("/bots/{name}/token", status_code=202)
    async def rotate_token(name: str, request: TokenRequest) -> CommandBody:
        """A new token for one bot, which is restarted with it."""
        return await service.rotate_token(name, request.token.get_secret_value().strip())

    @router.post("/bots/{name}/{verb}", status_code=202)
    async def command(name: str, verb: Verb) -> CommandBody:
        """Command one bot."""
        return await service.command(verb, name)

    @router.post("/rollout", status_code=202)
    async def rollout(request: RolloutRequest) -> RolloutBody:
        """Begin a rolling restart; it goes on whether anybody follows it or not."""
        return await service.rollout(request.wave, request.watch, request.settle)

    @router.get("/rollout")
    async def follow_rollout() -> StreamingResponse:
        """What the rolling restart under way, or the last one, says, as lines of JSON until it is over."""
        return StreamingResponse(_lines(service.follow_rollout()), media_type="application/x-ndjson")

    @router.post("/rollout/abort", status_code=202)
    async def abort_rollout() -> CommandBody:
        """Take back the rolling restart that is under way."""
        return await service.abort_rollout()

    @router.post("/shutdown", status_code=202)
    async def shutdown() -> CommandBody:
        """End the daemon."""
        return await service.shutdown()

    @router.post("/psql-login")
    async def psql_login(request: LoginRequest, http: Request) -> LoginBody:
        """Make a short-lived read-only login with one bot's rights."""
        about(http, bot=request.bot)
        return await service.psql_login(request.bot)

    @router.get("/runs")
    async def runs(
        bot: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
    ) -> RunsBody:
        """The latest incarnations, newest first."""
        return RunsBody(runs=await service.runs(bot, limit))

    @router.get("/bots/{name}/deaths")
    async def deaths(
        name: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20, planned: Annotated[bool, Query()] = False
    ) -> DeathsBody:
        """How a bot is now, and how its latest incarnations ended; with `planned` also those that were asked to."""
        return await service.deaths(name, limit, planned)

    @router.get("/events")
    async def events(
        log: Annotated[str, Query(pattern="^(all|bot|system|user)$")] = "all",
        after: Annotated[str, Query(pattern=r"^(0|\$|\d+(-\d+)?)$")] = "0",
        follow: Annotated[bool, Query()] = False,
    ) -> StreamingResponse:
        """Entries of the logs as lines of JSON; `after` is the id of an entry."""
        entries = await service.open_events(log, after, follow)
        return StreamingResponse(_lines(entries), media_type="application/x-ndjson")

    @router.post("/{verb}", status_code=202)
    async def command_all(verb: Verb) -> CommandBody:
        """Command every bot; `release` leaves those that were shut away on purpose."""
        return await service.command(verb, "")

    return router


async def _lines(entries: AsyncIterator[View]) -> AsyncIterator[bytes]:
    with contextlib.suppress(asyncio.CancelledError):
        async for entry in entries:
            yield entry.model_dump_json().encode() + b"\n"


def _answer(status: int, error: str, code: ExitCode, hint: str | None = None) -> JSONResponse:
    return JSONResponse(ErrorBody(error=error, hint=hint, code=int(code)).model_dump(), status_code=status)


async def _botctl_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BotctlError)
    status = 409 if isinstance(error, ConflictError) else _STATUS.get(error.exit_code, 500)
    return _answer(status, error.message, error.exit_code, error.hint)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # The rejected input isn't repeated: it may be a whole fleet with its tokens.
    faults = [f"{_dotted(fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    return _answer(422, "\n".join(faults), ExitCode.USAGE)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = ExitCode.USAGE if error.status_code in (404, 405) else ExitCode.FAILED
    return _answer(error.status_code, f"{request.method} {request.url.path}: {error.detail}", code)


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, f"internal error: {type(error).__name__}", ExitCode.FAILED, "See `botctl logs control`.")


def _dotted(location: Any) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
