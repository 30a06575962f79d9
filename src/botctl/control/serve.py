"""Serving an ASGI application on a Unix socket that only its owner may open, and perhaps on a TCP address.

A client of the Unix socket is known by the name of its user, which the kernel tells (SO_PEERCRED).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from botctl.errors import BotctlError


class Server(uvicorn.Server):
    """Leaves signals alone: `control` is told to stop through its pipe."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class PeerProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
    """HTTP whose `client`, over a Unix socket, is the user at its other end."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel who it is."""
        super().connection_made(transport)
        name = user_of(transport.get_extra_info("socket"))
        if name is not None:
            self.client = (name, 0)


def user_of(connection: Any) -> str | None:
    """Name, or number, of the user at the other end of a Unix socket; None of any other."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    try:
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    _, uid, _ = struct.unpack("iII", peer)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_server(app: Any) -> Server:
    """A server without access log, of this process's logging."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return Server(config)


def unix_socket(path: Path) -> socket.socket:
    """Listen on `path`, replacing what a killed predecessor left. Raises BotctlError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise BotctlError(f"the API's socket {path} can't be made: {error.strerror}") from error
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def tcp_socket(listen: str) -> socket.socket:
    """Listen on `host:port`. Raises BotctlError."""
    host, _, port = listen.rpartition(":")
    try:
        listener = socket.create_server(
            (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise BotctlError(
            f"can't listen on {listen}: {error.strerror or error}", hint="Change api_listen (BOTCTL_API_LISTEN)."
        ) from error
    listener.setblocking(False)
    return listener
