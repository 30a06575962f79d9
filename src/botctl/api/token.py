"""Demands a token of whoever asks the API anything: a process of the operator's uid isn't yet the operator.

A bot that shares the daemon's uid may open its socket, but Landlock hides the token's file from it.
"""

from __future__ import annotations

import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from botctl.api.models import ErrorBody
from botctl.errors import ExitCode

_REFUSAL = ErrorBody(
    error="the daemon refuses this: the token of its API is missing or wrong",
    hint="Run this as the user who started it; the token stands in api.token of its data folder.",
    code=int(ExitCode.REFUSED),
)


class TokenDemanded:
    """ASGI middleware: `Authorization: Bearer TOKEN`, or 401. Says of itself nothing but that."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what shows the token."""
        if scope["type"] == "http" and not self._shown(scope["headers"]):
            await JSONResponse(_REFUSAL.model_dump(), status_code=401)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _shown(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
