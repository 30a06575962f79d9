"""The HTTP face of the Telegram emulator: `/bot<token>/METHOD`, `/file/bot<token>/PATH`, and `/sandbox/…`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from botctl.sandbox.faults import Fault, When
from botctl.sandbox.shared_routes import add_shared_routes, operator_errors
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import ApiError, by_status, not_found
from botctl.sandbox.telegram.methods import load as _methods  # noqa: F401  (registers them)
from botctl.sandbox.telegram.methods.registry import Method, lookup
from botctl.sandbox.telegram.operator import add_operator_routes
from botctl.sandbox.telegram.parameters import Parameters, read_parameters, to_integer
from botctl.sandbox.telegram.world import World

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of one request; the real server takes uploads of 50 MB."""


def telegram_app(world: World) -> web.Application:
    """The whole emulator as one aiohttp application. Run it with `handler_cancellation=True`: the place of a poller
    that is gone is freed by cancelling its handler."""
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[operator_errors])
    calls = Calls(world)
    app.router.add_route("*", "/bot{token:[^/]+}/{method:[^/]+}", calls.handle)
    app.router.add_get("/file/bot{token:[^/]+}/{path:.+}", calls.download)
    add_shared_routes(app, "telegram", world.faults, world.calls)
    add_operator_routes(app, world)
    app.router.add_route("*", "/{anything:.*}", calls.nowhere)
    return app


class Calls:
    """Carries out calls of bots, with the faults that are due."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._late: set[asyncio.Task[web.Response]] = set()

    async def nowhere(self, request: web.Request) -> web.Response:
        """Any other address."""
        return _refusal(not_found())

    async def download(self, request: web.Request) -> web.Response:
        """The content of a file."""
        try:
            bot = self._world.authorize(request.match_info["token"])
            stored = bot.files.by_path(request.match_info["path"])
            if stored is None:
                raise not_found()
        except ApiError as error:
            return _refusal(error)
        return web.Response(body=stored.content, content_type="application/octet-stream")

    async def handle(self, request: web.Request) -> web.Response:
        """One method call."""
        name = request.match_info["method"]
        try:
            bot = self._world.authorize(request.match_info["token"])
        except ApiError as error:
            self._world.calls.add(None, name, {}, error.code, description=error.description)
            return _refusal(error)
        try:
            method = lookup(name)
            if method is None:
                raise not_found()
            parameters = await read_parameters(request)
        except ApiError as error:
            self._world.calls.add(bot.bot_id, name, {}, error.code, description=error.description)
            return _refusal(error)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(ApiError(413, "Request Entity Too Large"))
        fault = self._fault(method, bot, parameters)
        if fault is None:
            return await self._run(method, bot, parameters, None)
        return await self._harmed(request, method, bot, parameters, fault)

    def _fault(self, method: Method, bot: Bot, parameters: Parameters) -> Fault | None:
        if not len(self._world.faults):
            return None
        chat_id = to_integer(parameters.values["chat_id"]) if "chat_id" in parameters.values else None
        return self._world.faults.take(method.name.lower(), bot.bot_id, chat_id)

    async def _run(self, method: Method, bot: Bot, parameters: Parameters, fault_id: int | None) -> web.Response:
        """Let the call take effect; its answer."""
        started = time.monotonic()
        status, description = 0, None
        try:
            if method.function is not None:
                result = method.function(self._world, bot, parameters)
            else:
                assert method.waiting is not None
                result = await method.waiting(self._world, bot, parameters)
            status = 200
            return _answer({"ok": True, "result": result})
        except ApiError as error:
            status, description = error.code, error.description
            return _refusal(error)
        finally:
            self._world.calls.add(
                bot.bot_id,
                method.name,
                parameters.values,
                status,
                description=description,
                fault_id=fault_id,
                seconds=time.monotonic() - started,
            )

    async def _run_late(self, method: Method, bot: Bot, parameters: Parameters, fault: Fault) -> web.Response:
        await asyncio.sleep(fault.delay)
        return await self._run(method, bot, parameters, fault.fault_id)

    async def _harmed(
        self, request: web.Request, method: Method, bot: Bot, parameters: Parameters, fault: Fault
    ) -> web.Response:
        """The call with a fault."""
        if fault.when is When.BEFORE and not fault.answers:
            late = asyncio.create_task(self._run_late(method, bot, parameters, fault))
            if method.waiting is not None:
                return await _owned(late)
            self._late.add(late)  # a slow network brings the call even when the client has given up
            late.add_done_callback(self._late.discard)
            return await asyncio.shield(late)
        response: web.Response | None = None
        if fault.when is When.AFTER:
            response = await self._run(method, bot, parameters, fault.fault_id)
        else:
            self._note(bot, method, parameters.values, fault)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.hang:
            await asyncio.get_running_loop().create_future()
        if fault.cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if fault.body is not None:
            return web.Response(text=fault.body, status=fault.status or 200, content_type="text/html")
        if fault.status is not None and fault.status != 200:
            return _refusal(by_status(fault.status, fault.description, fault.retry_after))
        return response if response is not None else _answer({"ok": True, "result": True})

    def _note(self, bot: Bot, method: Method, values: Mapping[str, Any], fault: Fault) -> None:
        status = 0 if fault.cut or fault.hang else fault.status or 200
        self._world.calls.add(
            bot.bot_id, method.name, values, status, description=fault.description, fault_id=fault.fault_id
        )


async def _owned(task: asyncio.Task[web.Response]) -> web.Response:
    try:
        return await task
    finally:
        task.cancel()


def _answer(body: Mapping[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body, separators=(",", ":")).encode(), content_type="application/json")


def _refusal(error: ApiError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return web.Response(
        body=json.dumps(error.as_json()).encode(),
        status=error.code,
        content_type="application/json",
        headers=headers,
    )
