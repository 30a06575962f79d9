"""The operator's routes about faults: add, list, drop, see who is held, release. The same in both emulators."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from botctl.sandbox.faults.engine import FaultEngine
from botctl.sandbox.operator_json import OperatorError, query_number, read_json

LONGEST_WAIT = 300.0


def add_fault_routes(app: web.Application, engine: FaultEngine) -> None:
    """Add them below `/sandbox/faults` of an app."""

    async def list_faults(request: web.Request) -> web.Response:
        held = [one.as_json() for one in engine.holds.find()]
        return web.json_response({"faults": engine.box.as_json(), "held": held})

    async def add_faults(request: web.Request) -> web.Response:
        raw = await read_json(request)
        added = [engine.box.add(item) for item in (raw if isinstance(raw, list) else [raw])]
        return web.json_response({"faults": [fault.as_json() for fault in added]})

    async def clear_faults(request: web.Request) -> web.Response:
        chosen = request.query.get("fault_id")
        dropped = engine.clear(int(query_number(request, "fault_id", 0)) if chosen is not None else None)
        return web.json_response({"dropped": dropped})

    async def show_held(request: web.Request) -> web.Response:
        """Who is held; waits up to `wait` seconds until there are `held` of them."""
        fault_id = _fault_id(request)
        least = int(query_number(request, "held", 0))
        deadline = time.monotonic() + min(query_number(request, "wait", 0), LONGEST_WAIT)
        while len(engine.holds.find(fault_id)) < least and (left := deadline - time.monotonic()) > 0:
            await engine.holds.changed.wait(left)
        held = [one.as_json() for one in engine.holds.find(fault_id)]
        return web.json_response({"fault_id": fault_id, "held": held})

    async def release(request: web.Request) -> web.Response:
        raw: Any = await read_json(request)
        if not isinstance(raw, dict) or set(raw) - {"hold_id", "drop"}:
            raise OperatorError("a release may name hold_id and drop")
        hold_id = raw.get("hold_id")
        if hold_id is not None and not isinstance(hold_id, int):
            raise OperatorError("hold_id is a whole number")
        released = engine.holds.release(_fault_id(request), hold_id=hold_id, drop=bool(raw.get("drop")))
        return web.json_response({"released": released})

    app.router.add_get("/sandbox/faults", list_faults)
    app.router.add_post("/sandbox/faults", add_faults)
    app.router.add_delete("/sandbox/faults", clear_faults)
    app.router.add_get("/sandbox/faults/{fault_id}", show_held)
    app.router.add_post("/sandbox/faults/{fault_id}/release", release)


def _fault_id(request: web.Request) -> int:
    try:
        return int(request.match_info["fault_id"])
    except ValueError as error:
        raise OperatorError("a fault's id is a whole number") from error
