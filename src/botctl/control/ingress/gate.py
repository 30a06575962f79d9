"""The listening socket: accepts, keeps the crowd within bounds, and gives each connection its protocol.

Accepts by itself rather than by a server of asyncio's, whose handshakes nobody counts: ten thousand connections that
never say a word must not use up this process's descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import structlog
from uvicorn.server import ServerState

from botctl.control.ingress.crowd import Crowd
from botctl.control.ingress.figures import Figures
from botctl.control.ingress.visitor import HEAD_TIME, Visitor, VisitorProtocol, config_of
from botctl.errors import BotctlError
from botctl.settings.webhook import UNIX

_log = structlog.get_logger("botctl.control.ingress")

BACKLOG = 256
_SHORTAGE = 0.1
"""Seconds to wait when no connection can be accepted, for want of descriptors."""


class Gate:
    """`tls` gives the context for the next connection, None for plain HTTP. `most` connections are open at a time."""

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        figures: Figures,
        *,
        tls: Callable[[], ssl.SSLContext | None],
        allow_from: Sequence[IPv4Network | IPv6Network] = (),
        most: int,
    ) -> None:
        self._listener = listener
        self._figures = figures
        self._tls = tls
        self._allow_from = allow_from
        self.crowd = Crowd[Visitor](most)
        self._config = config_of(app)
        self._state = ServerState()

    async def run(self) -> None:
        """Accept until cancelled; then close what is open."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listener)
                except OSError as error:
                    _log.warning("a connection can't be accepted", reason=error.strerror)
                    await asyncio.sleep(_SHORTAGE)
                    continue
                if self._may_come(address):
                    self._receive(accepted)
                else:
                    self._figures.pushed_out += 1
                    accepted.close()
                # Accepting doesn't wait as long as there is somebody: whoever has to go needs a turn to be gone.
                await asyncio.sleep(0)
        finally:
            for visitor in self.crowd.everybody():
                visitor.throw_out()

    def _may_come(self, address: Any) -> bool:
        if not self._allow_from:
            return True
        host = ip_address(str(address[0]).partition("%")[0])
        if isinstance(host, IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in network for network in self._allow_from)

    def _receive(self, accepted: socket.socket) -> None:
        visitor = Visitor(accepted)
        out = self.crowd.enter(visitor)
        if out is not None:
            self._figures.pushed_out += 1
            out.throw_out()
        accepted.setblocking(False)
        visitor.hurry()
        visitor.arriving = asyncio.create_task(self._arrive(visitor))

    async def _arrive(self, visitor: Visitor) -> None:
        loop = asyncio.get_running_loop()
        tls = self._tls()
        limits = {"ssl_handshake_timeout": HEAD_TIME, "ssl_shutdown_timeout": 1.0} if tls is not None else {}
        try:
            await loop.connect_accepted_socket(
                lambda: VisitorProtocol(self._config, self._state, visitor, self.crowd.leave),
                visitor.accepted,
                ssl=tls,
                **limits,
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            # A stranger's handshake, or one that was pushed out.
            visitor.calm()
            self.crowd.leave(visitor)
            with contextlib.suppress(OSError):
                visitor.accepted.close()


def listen_on(place: str) -> socket.socket:
    """Listen on `host:port` or `unix:/path`. Raises BotctlError."""
    hint = "Change listen under [webhook] of the settings."
    if place.startswith(UNIX):
        return _unix_socket(Path(place.removeprefix(UNIX)), hint)
    host, _, port = place.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise BotctlError(f"the ingress can't listen on {place}: {error.strerror or error}", hint=hint) from error
    listener.setblocking(False)
    return listener


def _unix_socket(path: Path, hint: str) -> socket.socket:
    """Everybody on this machine may connect, as to a port: who is nobody is told so."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        os.chmod(path, 0o666)
    except OSError as error:
        listener.close()
        raise BotctlError(f"the ingress can't listen on {path}: {error.strerror or error}", hint=hint) from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
