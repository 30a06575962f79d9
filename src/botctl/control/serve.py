"""Serving an ASGI application on a Unix socket that only its owner may open, and perhaps on a TCP address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from botctl.errors import BotctlError


class Server(uvicorn.Server):
    """Leaves signals alone: `control` is told to stop through its pipe."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def make_server(app: Any) -> Server:
    """A server without access log, of this process's logging."""
    config = uvicorn.Config(
        app,
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
