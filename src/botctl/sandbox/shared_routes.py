"""Operator routes that both emulators serve alike: health, faults, calls."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from botctl.sandbox.calls import CallLog
from botctl.sandbox.faults.engine import FaultEngine
from botctl.sandbox.faults.routes import add_fault_routes
from botctl.sandbox.faults.spec import FaultError
from botctl.sandbox.operator_json import OperatorError, query_number

MOST_CALLS = 100_000


@web.middleware
async def operator_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn OperatorError and FaultError below `/sandbox` into JSON answers; elsewhere the emulator answers itself."""
    if not request.path.startswith("/sandbox/"):
        emulated: web.StreamResponse = await handler(request)
        return emulated
    try:
        response: web.StreamResponse = await handler(request)
    except OperatorError as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except FaultError as error:
        return web.json_response({"error": str(error)}, status=400)
    return response


def add_shared_routes(app: web.Application, kind: str, faults: FaultEngine, calls: CallLog) -> None:
    """Add health, faults and calls below `/sandbox` of an app."""

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "emulator": kind})

    async def list_calls(request: web.Request) -> web.Response:
        bot_id = request.query.get("bot_id")
        found = calls.find(
            after=int(query_number(request, "after", 0)),
            method=request.query.get("method"),
            bot_id=int(query_number(request, "bot_id", 0)) if bot_id is not None else None,
            limit=min(MOST_CALLS, int(query_number(request, "limit", 1000))),
        )
        return web.json_response({"calls": [call.as_json() for call in found]})

    app.router.add_get("/sandbox/health", health)
    app.router.add_get("/sandbox/calls", list_calls)
    add_fault_routes(app, faults)
