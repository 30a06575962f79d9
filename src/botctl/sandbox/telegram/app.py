"""The HTTP face of the Telegram emulator: `/bot<token>/METHOD`, `/file/bot<token>/PATH`, and `/sandbox/…`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from botctl.sandbox.faults.box import Fault
from botctl.sandbox.faults.engine import HarmedCall
from botctl.sandbox.faults.spec import Disorder, FaultSpec
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

    async def close(app: web.Application) -> None:
        world.close()

    app.on_cleanup.append(close)
    app.router.add_route("*", "/{anything:.*}", calls.nowhere)
    return app


class Calls:
    """Carries out calls of bots, with the faults that are due."""

    def __init__(self, world: World) -> None:
        self._world = world

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

    async def handle(self, request: web.Request) -> web.StreamResponse:
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
        faults = self._world.faults
        if not len(faults.box) and not len(faults.holds):
            return await self._run(method, bot, parameters, None)
        chat_id = to_integer(parameters.values["chat_id"]) if "chat_id" in parameters.values else None
        fault = faults.take(method.name.lower(), bot.bot_id, chat_id)
        if fault is None:
            return await self._run(method, bot, parameters, None)
        call = HarmedCall(
            request,
            method.name,
            bot.bot_id,
            chat_id,
            run=lambda: self._run(method, bot, parameters, fault),
            refuse=_refusal_of,
            note=lambda status: self._world.calls.add(
                bot.bot_id,
                method.name,
                parameters.values,
                status,
                description=fault.spec.description,
                fault_id=fault.fault_id,
            ),
            goes_with_client=method.waiting is not None,
        )
        return await faults.carry_out(call, fault)

    async def _run(self, method: Method, bot: Bot, parameters: Parameters, fault: Fault | None) -> web.Response:
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
            if fault is not None and fault.spec.updates is not None and isinstance(result, list):
                result = _disordered(bot, result, fault.spec.updates, fault.dice)
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
                fault_id=fault.fault_id if fault is not None else None,
                seconds=time.monotonic() - started,
            )


def _disordered(bot: Bot, batch: list[Any], disorder: Disorder, dice: random.Random) -> list[Any]:
    """A batch of updates as Telegram never promised not to give it."""
    match disorder:
        case Disorder.TWICE:
            return [update for update in batch for _ in range(2)]
        case Disorder.AGAIN:
            bot.updates.give_again(batch)
            return batch
        case Disorder.REVERSED:
            return batch[::-1]
        case Disorder.SHUFFLED:
            return dice.sample(batch, len(batch))


def _answer(body: Mapping[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body, separators=(",", ":")).encode(), content_type="application/json")


def _refusal_of(spec: FaultSpec) -> web.Response:
    """What a fault answers instead of the truth; a status of 200 is a lie about success."""
    status = spec.code or 200
    if status == 200:
        return _answer({"ok": True, "result": True})
    return _refusal(by_status(status, spec.description, spec.retry_after, spec.migrate_to_chat_id))


def _refusal(error: ApiError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return web.Response(
        body=json.dumps(error.as_json()).encode(),
        status=error.code,
        content_type="application/json",
        headers=headers,
    )
