"""Operator routes that both emulators serve alike: health, faults, calls."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from botctl.sandbox.calls import CallLog
from botctl.sandbox.faults import FaultBox, FaultError

MOST_CALLS = 100_000


class OperatorError(Exception):
    """A wrong request of the operator: becomes `{"error": …}` with that status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


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


async def read_json(request: web.Request) -> Any:
    """The JSON body; an empty one counts as `{}`. Raises OperatorError."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError as error:
        raise OperatorError(f"the body is no JSON: {error}") from error


def query_number(request: web.Request, name: str, default: float) -> float:
    """A number of the query string. Raises OperatorError."""
    value = request.query.get(name)
    if value is None:
        return default
    try:
        return float(value)
    except ValueError as error:
        raise OperatorError(f"{name} is a number, not {value!r}") from error


def add_shared_routes(app: web.Application, kind: str, faults: FaultBox, calls: CallLog) -> None:
    """Add health, faults and calls below `/sandbox` of an app."""

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "emulator": kind})

    async def list_faults(request: web.Request) -> web.Response:
        return web.json_response({"faults": faults.as_json()})

    async def add_faults(request: web.Request) -> web.Response:
        raw = await read_json(request)
        added = [faults.add(item) for item in (raw if isinstance(raw, list) else [raw])]
        return web.json_response({"faults": [fault.as_json() for fault in added]})

    async def clear_faults(request: web.Request) -> web.Response:
        fault_id = request.query.get("fault_id")
        dropped = faults.clear(int(query_number(request, "fault_id", 0)) if fault_id is not None else None)
        return web.json_response({"dropped": dropped})

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
    app.router.add_get("/sandbox/faults", list_faults)
    app.router.add_post("/sandbox/faults", add_faults)
    app.router.add_delete("/sandbox/faults", clear_faults)
    app.router.add_get("/sandbox/calls", list_calls)
