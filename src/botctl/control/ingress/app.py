"""The ASGI application behind the gate: one POST is one update. Says 200 when it is committed, and not before.

Reads no body of anybody who has shown no secret. Whoever is nobody gets 404, whatever they ask for.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog

from botctl.control.ingress.crowd import Crowd
from botctl.control.ingress.door import SECRET_HEADER, Admitted, Door
from botctl.control.ingress.figures import Figures
from botctl.control.ingress.room import LARGEST, Room
from botctl.control.ingress.telling import Telling
from botctl.control.ingress.visitor import Visitor
from botctl.control.ingress.writer import Outcome, Writer
from botctl.storage.updates import read_update

_log = structlog.get_logger("botctl.control.ingress")

BODY_TIME = 10.0
"""Seconds for a body, however little of it comes at a time."""

COME_AGAIN = b"1"
"""Seconds after which there is room again. While the database is away nothing is said of when: Telegram then comes at
once, after 2, 4, 8 … seconds, up to a minute or two (WebhookActor.cpp of its server), and no faster for all bots."""


class _TooLargeError(Exception):
    """A body is longer than any update."""


class _NoRoomError(Exception):
    """So many bytes are on their way already that there is no room for this body."""


class _GoneError(Exception):
    """The connection was closed in the middle."""


class _Body:
    """The body of one request: `size` bytes of it have arrived and have room."""

    def __init__(self, room: Room, bot_id: int) -> None:
        self._room = room
        self._bot_id = bot_id
        self.size = 0

    async def read(self, receive: Any) -> bytes:
        """All of it. Raises _TooLargeError, _NoRoomError, _GoneError."""
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            part = message.get("body", b"")
            if self.size + len(part) > LARGEST:
                raise _TooLargeError
            if not self._room.arrive(self._bot_id, len(part)):
                raise _NoRoomError
            self.size += len(part)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


class IngressApp:
    """`door` is None as long as it isn't known who may come in. `nonce` is asked for by whoever tries the way to us."""

    def __init__(
        self, door: Callable[[], Door | None], writer: Writer, room: Room, figures: Figures, telling: Telling
    ) -> None:
        self._door = door
        self._writer = writer
        self._room = room
        self._figures = figures
        self._telling = telling
        self.crowd: Crowd[Visitor] | None = None
        self.nonce = secrets.token_urlsafe(32)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        began = time.monotonic()
        door = self._door()
        if door is None:
            await self._refuse(send, 503, "away")
            return
        admitted = door.admit(scope["path"], _shown(scope))
        if scope["method"] == "GET" and self._is_probe(scope["path"], door):
            await _answer(send, 204)
            return
        if admitted is None or scope["method"] != "POST":
            await self._refuse(send, 404, "stranger")
            return
        self._make_known(scope, admitted.resident.bot_id)
        self._note(admitted, began)
        if _declared(scope) > LARGEST:
            await self._refuse(send, 413, "large")
            return
        if not self._room.enter(admitted.resident.bot_id):
            await self._refuse(send, 503, "busy")
            return
        body = _Body(self._room, admitted.resident.bot_id)
        try:
            await self._take(admitted, body, receive, send)
        finally:
            self._room.leave(admitted.resident.bot_id, body.size)
            self._figures.took(time.monotonic() - began)

    async def _take(self, admitted: Admitted, arriving: _Body, receive: Any, send: Any) -> None:
        resident = admitted.resident
        try:
            async with asyncio.timeout(BODY_TIME):
                body = await arriving.read(receive)
        except TimeoutError:
            await self._refuse(send, 408, "slow")
            return
        except _TooLargeError:
            await self._refuse(send, 413, "large")
            return
        except _NoRoomError:
            await self._refuse(send, 503, "busy")
            return
        except _GoneError:
            return
        try:
            row = read_update(body, secrets.token_hex(8))
        except (ValueError, RecursionError) as error:
            # Refused, it would come again for a day, and hold up what comes after it.
            self._figures.refused["odd"] += 1
            if times := self._telling.times(resident.bot_id, "odd", time.monotonic()):
                what = "an update can't be used and is dropped"
                _log.error(what, bot_id=resident.bot_id, reason=str(error)[:200], times=times)
            await _answer(send, 200)
            return
        outcome = await self._writer.put(resident.bot_id, row, resident.sealing)
        if outcome is Outcome.AWAY:
            await self._refuse(send, 503, "away")
            return
        if outcome is Outcome.KNOWN:
            self._figures.repeated[resident.bot_id] += 1
        await _answer(send, 200)

    def _make_known(self, scope: Any, bot_id: int) -> None:
        goes = self.crowd.known(scope["state"]["visitor"], bot_id) if self.crowd is not None else None
        if goes is not None:
            self._figures.pushed_out += 1
            goes.throw_out()

    def _note(self, admitted: Admitted, now: float) -> None:
        current = admitted.resident.secret.current
        seen = self._figures.newest_seen.get(admitted.resident.bot_id)
        if admitted.newest and (seen is None or seen[0] != current):
            self._figures.newest_seen[admitted.resident.bot_id] = (current, now)

    def _is_probe(self, path: str, door: Door) -> bool:
        return hmac.compare_digest(path.encode("utf-8", "replace"), f"{door.path}/probe/{self.nonce}".encode())

    async def _refuse(self, send: Any, status: int, why: str) -> None:
        self._figures.refused[why] += 1
        headers = [(b"connection", b"close")]
        if why == "busy":
            headers.append((b"retry-after", COME_AGAIN))
        await _answer(send, status, headers)


def _shown(scope: Any) -> bytes:
    return next((value for name, value in scope["headers"] if name == SECRET_HEADER), b"")


def _declared(scope: Any) -> int:
    """Bytes that the body is said to have; 0 when nobody says."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() and len(value) < 16 else LARGEST + 1


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    length = [] if status == 204 else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": [*length, *(headers or [])]})
    await send({"type": "http.response.body", "body": b""})
