"""HTTP to Telegram: one aiohttp session, and errors that say whether a request may have arrived.

Telegram's own refusals are not judged here; a caller sees the status and the body.
"""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
from telegram.error import NetworkError, TimedOut


class NotSentError(NetworkError):
    """The request surely didn't reach Telegram: it may be made again."""


class OutcomeUnknownError(TimedOut):
    """The request may have reached Telegram and been carried out."""


class ServerFaultError(NetworkError):
    """Telegram answered that it failed (5xx): it didn't carry the request out."""


class Transport:
    """POST and GET with time limits. `proxy` is the URL of an HTTP proxy."""

    def __init__(self, tls: ssl.SSLContext, *, proxy: str | None = None, connect_timeout: float = 10.0) -> None:
        self._tls = tls
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; the event loop must be running. No connection is made yet."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=256, keepalive_timeout=30.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "botctl"},
            )

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(self, method: str, url: str, *, data: Any = None, timeout: float = 30.0) -> tuple[int, bytes]:
        """Status and body. Raises NotSentError or OutcomeUnknownError.

        `timeout`: seconds without a byte of the answer, from the end of the request on. To connect, to send the request
        and to read the whole answer there are `connect_timeout` seconds more.
        """
        session = self._session
        if session is None or session.closed:
            raise NotSentError("the connection to Telegram has been closed")
        limits = aiohttp.ClientTimeout(
            total=timeout + self._connect_timeout, sock_connect=self._connect_timeout, sock_read=timeout
        )
        try:
            async with session.request(
                method, url, data=data, proxy=self._proxy, timeout=limits, allow_redirects=False
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            # Among them names that don't resolve, refused connections, proxies and failed TLS handshakes.
            raise NotSentError(_describe(error)) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknownError(_describe(error)) from error


def _describe(error: BaseException) -> str:
    # The URL has the token in it; the class and the system's own words say enough.
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__
