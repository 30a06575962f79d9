"""One connection: uvicorn's HTTP with time limits of its own for what comes before a request's body.

From the moment it is accepted, or from the first byte after an answer, `HEAD_TIME` seconds may pass until a whole head
has been read, TLS handshake included; however little of it comes at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD_TIME = 10.0
KEEP_ALIVE = 75.0
"""Seconds for which a connection without a request stays open; a proxy before us keeps its own for 60 by default."""

LONGEST_HEAD = 16 * 1024

_quiet = logging.Logger("ingress", logging.CRITICAL + 1)
"""What strangers send is nothing to fill a log with; it is counted."""


class Visitor:
    """What is known of a connection, from its acceptance to its end."""

    def __init__(self, accepted: socket.socket) -> None:
        self.accepted = accepted
        self.transport: asyncio.Transport | None = None
        self.arriving: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None

    def hurry(self) -> None:
        """A head has to be there soon."""
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(HEAD_TIME, self.throw_out)

    def calm(self) -> None:
        """It is there, or the connection is gone."""
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def throw_out(self) -> None:
        """Close the connection at once, without a word."""
        self.calm()
        if self.transport is not None:
            self.transport.abort()
        elif self.arriving is not None:
            self.arriving.cancel()


class VisitorProtocol(H11Protocol):
    """HTTP of one visitor; `gone` is called when its connection is closed."""

    def __init__(self, config: Config, state: ServerState, visitor: Visitor, gone: Any) -> None:
        super().__init__(config=config, server_state=state, app_state={"visitor": visitor})
        self.logger = _quiet
        self.access_log = False
        self._visitor = visitor
        self._gone = gone

    def connection_made(self, transport: Any) -> None:
        """The handshake is over."""
        self._visitor.transport = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Something of a head, or of a body."""
        if not self._at_work:
            self._visitor.hurry()
        super().data_received(data)
        if self._at_work:
            self._visitor.calm()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._visitor.calm()
        super().connection_lost(exc)
        self._gone(self._visitor)

    @property
    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def config_of(app: Any) -> Config:
    """What uvicorn has to know."""
    config = Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=H11Protocol,
        timeout_keep_alive=int(KEEP_ALIVE),
        h11_max_incomplete_event_size=LONGEST_HEAD,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    config.load()
    return config
