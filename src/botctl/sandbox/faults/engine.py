"""Carries faults out: waits, holds, cuts connections, replaces answers. One for both emulators.

Which call is hit is `box.py`'s decision; what a call does and how a refusal is worded, the emulator's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from botctl.sandbox.faults.box import Fault, FaultBox
from botctl.sandbox.faults.holds import Holds
from botctl.sandbox.faults.spec import FaultSpec, When


@dataclass(frozen=True, slots=True)
class HarmedCall:
    """A call that a fault has hit.

    `run` lets it take effect and gives the true answer. `refuse` makes the emulator's own refusal. `note` is told the
    status when the call never takes effect (0: no answer). `goes_with_client`: a poll ends when its client is gone;
    others reach the server although nobody waits for them any more.
    """

    request: web.Request
    method: str
    bot_id: int | None
    chat_id: int | None
    run: Callable[[], Awaitable[web.StreamResponse]]
    refuse: Callable[[FaultSpec], web.Response]
    note: Callable[[int], None]
    goes_with_client: bool = False


class FaultEngine:
    """The faults of one emulator, and the calls they hold."""

    def __init__(self, box: FaultBox | None = None) -> None:
        self.box = box if box is not None else FaultBox()
        self.holds = Holds()
        self._late: set[asyncio.Task[web.StreamResponse]] = set()

    def take(self, method: str, bot_id: int | None = None, chat_id: int | None = None) -> Fault | None:
        """The fault for this call, None for an unharmed one. `method` in lower case."""
        if len(self.holds):
            self.holds.called(method, bot_id)
        return self.box.take(method, bot_id, chat_id) if len(self.box) else None

    def clear(self, fault_id: int | None = None) -> int:
        """Drop one fault, or all; what they hold goes on. Returns how many were dropped."""
        dropped = self.box.clear(fault_id)
        self.holds.release(fault_id)
        return len(dropped)

    async def carry_out(self, call: HarmedCall, fault: Fault) -> web.StreamResponse:
        """The call with its fault."""
        spec = fault.spec
        if spec.when is When.BEFORE and not spec.replaces:
            late = asyncio.create_task(self._run_late(call, fault))
            if call.goes_with_client:
                return await _owned(late)
            self._late.add(late)  # a slow network brings the call even when the client has given up
            late.add_done_callback(self._late.discard)
            try:
                return await asyncio.shield(late)
            except asyncio.CancelledError:
                for held in self.holds.find(fault.fault_id):
                    held.client_gone = held.client_gone or held.owner is call
                raise
        response: web.StreamResponse | None = None
        if spec.when is When.AFTER:
            response = await call.run()
        else:
            call.note(0 if spec.cut or spec.hang else spec.code or 200)
        if not await self._wait(call, fault, effect=response is not None):
            return cut(call.request)
        if spec.hang:
            await asyncio.get_running_loop().create_future()
        if spec.cut:
            return cut(call.request)
        if spec.body is not None:
            return web.Response(
                text=spec.body, status=spec.code or 200, content_type=spec.content_type or "text/html", charset="utf-8"
            )
        if spec.code is not None and (response is None or spec.code != 200):
            return call.refuse(spec)
        return await spoil(call.request, response, spec) if response is not None else call.refuse(spec)

    async def _run_late(self, call: HarmedCall, fault: Fault) -> web.StreamResponse:
        if not await self._wait(call, fault, effect=False):
            call.note(0)
            return cut(call.request)
        return await spoil(call.request, await call.run(), fault.spec)

    async def _wait(self, call: HarmedCall, fault: Fault, *, effect: bool) -> bool:
        """For the delay, or until released; False when the call is to be dropped."""
        spec = fault.spec
        if not spec.hold:
            if spec.delay:
                await asyncio.sleep(spec.delay)
            return True
        with self.holds.hold(
            fault.fault_id,
            call.method,
            call.bot_id,
            call.chat_id,
            owner=call,
            effect=effect,
            release_on=spec.release_on,
            longest=spec.delay,
        ) as held:
            return await held.freed


def cut(request: web.Request) -> web.Response:
    """Close the connection now. The response is for aiohttp, nobody gets it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def spoil(request: web.Request, response: web.StreamResponse, spec: FaultSpec) -> web.StreamResponse:
    """The true answer, altered as the fault says. A stream alters itself on its way."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    if spec.malformed:
        response.body = response.body[: len(response.body) // 2]
    if spec.content_type is not None:
        response.content_type = spec.content_type
    if spec.cut_body and request.transport is not None:
        whole: Any = response.body
        part = web.StreamResponse(status=response.status, headers=response.headers)
        part.content_length = len(whole)
        await part.prepare(request)
        await part.write(whole[: len(whole) // 2])
        return cut_after(request, part)
    return response


def cut_after(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection once what has been written is on its way."""
    if request.transport is not None:
        request.transport.close()
    return response


async def _owned(task: asyncio.Task[web.StreamResponse]) -> web.StreamResponse:
    try:
        return await task
    finally:
        task.cancel()
