"""The HTTP face of the completion emulator: `/v1/responses`, `/v1/chat/completions`, `/v1/models`, `/sandbox/…`."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from botctl.sandbox.calls import CallLog
from botctl.sandbox.completion.answers import Answer, make_answer, spoil_answer
from botctl.sandbox.completion.chat import chat_body, chat_chunks
from botctl.sandbox.completion.errors import CompletionError, by_status, invalid, no_key, refused_key, unknown_model
from botctl.sandbox.completion.requests import Asked, read_chat_request, read_responses_request
from botctl.sandbox.completion.responses import response_body, response_events
from botctl.sandbox.faults.box import Fault
from botctl.sandbox.faults.engine import FaultEngine, HarmedCall, cut
from botctl.sandbox.faults.spec import FaultSpec
from botctl.sandbox.shared_routes import add_shared_routes, operator_errors

KNOWN_MODELS = ("gpt-5", "gpt-5-mini", "gpt-4o", "gpt-4o-mini", "sandbox")
BODY_LIMIT = 32 * 1024 * 1024
_NO_FAULT = FaultSpec(delay=0.1)
"""Stands where there is none; none of its fields that matter to a stream is set."""
ASKED = web.RequestKey("asked", Asked)


@dataclass(slots=True)
class CompletionWorld:
    """Settings, faults and calls of one completion emulator. It keeps no conversation."""

    models: tuple[str, ...] = ()
    """When not empty, every other model is 404."""
    refused_keys: set[str] = field(default_factory=set)
    chunk_delay: float = 0.0
    """Seconds between the pieces of a stream."""
    faults: FaultEngine = field(default_factory=FaultEngine)
    calls: CallLog = field(default_factory=CallLog)


def completion_app(world: CompletionWorld) -> web.Application:
    """The whole emulator as one aiohttp application."""
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[operator_errors])
    server = Server(world)
    app.router.add_post("/v1/responses", server.responses)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/v1/models/{model}", server.one_model)
    add_shared_routes(app, "completion", world.faults, world.calls)
    app.router.add_route("*", "/{anything:.*}", server.nowhere)
    return app


class Server:
    """The endpoints, with the faults that are due. Faults name them `responses`, `chat.completions`, `models`."""

    def __init__(self, world: CompletionWorld) -> None:
        self._world = world

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""

        async def work(fault: Fault | None) -> web.StreamResponse:
            answer = await self._answer(request, read_responses_request, fault)
            if answer.asked.stream:
                events = (f"event: {event['type']}\ndata: {_dump(event)}\n\n" for event in response_events(answer))
                return await self._stream(request, events, fault)
            return _json(response_body(answer))

        return await self._call(request, "responses", work)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""

        async def work(fault: Fault | None) -> web.StreamResponse:
            answer = await self._answer(request, read_chat_request, fault)
            if answer.asked.stream:
                return await self._stream(request, _chat_stream(answer), fault)
            return _json(chat_body(answer))

        return await self._call(request, "chat.completions", work)

    async def models(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models."""

        async def work(fault: Fault | None) -> web.StreamResponse:
            models = self._world.models or KNOWN_MODELS
            return _json({"object": "list", "data": [_model(name) for name in models]})

        return await self._call(request, "models", work)

    async def one_model(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models/NAME."""

        async def work(fault: Fault | None) -> web.StreamResponse:
            name = request.match_info["model"]
            if self._world.models and name not in self._world.models:
                raise unknown_model(name)
            return _json(_model(name))

        return await self._call(request, "models", work)

    async def nowhere(self, request: web.Request) -> web.StreamResponse:
        """Any other address."""
        return _refusal(CompletionError(404, f"Invalid URL ({request.method} {request.path})"))

    async def _answer(self, request: web.Request, read: Callable[[object], Asked], fault: Fault | None) -> Answer:
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            raise invalid("We could not parse the JSON body of your request.") from None
        asked = read(body)
        if self._world.models and asked.model not in self._world.models:
            raise unknown_model(asked.model)
        request[ASKED] = asked
        answer = make_answer(asked)
        return answer if fault is None else spoil_answer(answer, fault.spec)

    async def _call(
        self, request: web.Request, name: str, work: Callable[[Fault | None], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Check the key, run the endpoint, carry out the fault, keep the record."""
        started = time.monotonic()
        fault = self._world.faults.take(name)
        status, description = 0, None
        try:
            self._check_key(request)
            response = await (work(None) if fault is None else self._harmed(request, name, work, fault))
            status = response.status
            if fault is not None and (fault.spec.cut or fault.spec.cut_body or fault.spec.after_chunks is not None):
                status = 0
            return response
        except CompletionError as error:
            status, description = error.status, error.message
            return _refusal(error)
        except web.HTTPRequestEntityTooLarge:
            status = 413
            return _refusal(CompletionError(413, "The request is too large."))
        finally:
            self._world.calls.add(
                None,
                name,
                _record(request.get(ASKED)),
                status,
                description=description,
                fault_id=fault.fault_id if fault is not None else None,
                seconds=time.monotonic() - started,
            )

    def _check_key(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise no_key()
        if key.strip() in self._world.refused_keys:
            raise refused_key(key.strip())

    async def _harmed(
        self,
        request: web.Request,
        name: str,
        work: Callable[[Fault | None], Awaitable[web.StreamResponse]],
        fault: Fault,
    ) -> web.StreamResponse:
        call = HarmedCall(
            request,
            name,
            None,
            None,
            run=lambda: work(fault),
            refuse=_refusal_of,
            note=lambda status: None,  # `_call` keeps the record
            goes_with_client=True,
        )
        return await self._world.faults.carry_out(call, fault)

    async def _stream(self, request: web.Request, frames: Iterator[str], fault: Fault | None) -> web.StreamResponse:
        """Send server-sent events; a fault may slow them down, and end them after so many pieces of text."""
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Request-Id": _request_id(),
            }
        )
        await response.prepare(request)
        spec = fault.spec if fault is not None else _NO_FAULT
        left = spec.after_chunks
        delay = spec.chunk_delay or self._world.chunk_delay
        for frame in frames:
            is_text = '.delta"' in frame[:80] or '"delta":{"content"' in frame
            if is_text:
                if left == 0:
                    if not spec.truncated:
                        cut(request)
                    break
                if left is not None:
                    left -= 1
                if delay:
                    await asyncio.sleep(delay)
            await response.write((frame[: len(frame) // 2] + "\n\n" if spec.malformed and is_text else frame).encode())
        await response.write_eof()
        return response


def _chat_stream(answer: Answer) -> Iterator[str]:
    for chunk in chat_chunks(answer):
        yield f"data: {_dump(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _record(asked: Asked | None) -> Mapping[str, Any]:
    """What the log of calls keeps of a request: enough to see which memory the client sent along."""
    if asked is None:
        return {}
    return {
        "model": asked.model,
        "instructions": asked.instructions,
        "turns": len(asked.turns),
        "last": asked.turns[-1].text if asked.turns else "",
        "stream": asked.stream,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sandbox"}


def _dump(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))


def _request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def _json(body: Mapping[str, Any]) -> web.Response:
    return web.Response(
        body=_dump(body).encode(), content_type="application/json", headers={"X-Request-Id": _request_id()}
    )


def _refusal_of(spec: FaultSpec) -> web.Response:
    return _refusal(by_status(spec.code or 200, spec.description, spec.retry_after))


def _refusal(error: CompletionError) -> web.Response:
    headers = {"X-Request-Id": _request_id()}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(
        body=_dump(error.as_json()).encode(), status=error.status, content_type="application/json", headers=headers
    )
