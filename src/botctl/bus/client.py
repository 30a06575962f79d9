"""Connections to Redis, set up the one way that streams need.

No client retries (a lost reply would append an entry twice), no health check, a read timeout above BLOCK, uniform
replies, and no command on connecting that a bot's user may not send.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections.abc import Callable
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, ConnectionError, DataError, RedisError, ResponseError, TimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from botctl.errors import UsageError

BLOCK_MS = 5_000
"""How long a blocking read waits on the server, in milliseconds."""

_TIMEOUT = 5.0
_BLOCKING_TIMEOUT = BLOCK_MS / 1000 + 5.0

AWAY = (RedisError, OSError, builtins.TimeoutError)
"""What a call raises while Redis can't be used: not reachable, loading, out of memory, user not made yet."""


class _Passwords(CredentialProvider):
    """Gives the password that worked last, or the next candidate after it was refused."""

    def __init__(self, username: str, passwords: Callable[[], tuple[str, ...]]) -> None:
        self.username = username
        self._passwords = passwords
        self._choice = 0

    @property
    def candidates(self) -> int:
        return len(self._passwords())

    def refused(self) -> None:
        self._choice += 1

    def get_credentials(self) -> tuple[str, str]:
        passwords = self._passwords()
        if not passwords:
            raise DataError("no password is known for this Redis user")
        return self.username, passwords[self._choice % len(passwords)]

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


class _Careful(AbstractConnection):
    """Tries several passwords, and can be cancelled at any moment."""

    steadfast = False
    connected_at = 0.0
    """On the monotonic clock."""

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect anew with the next password when the server has refused one: redis-py closes the connection then."""
        if self.is_connected:
            return
        provider = self.credential_provider
        others = provider.candidates - 1 if isinstance(provider, _Passwords) else 0
        while True:
            try:
                await super().connect_check_health(check_health, retry_socket_connect)
            except AuthenticationError:
                if isinstance(provider, _Passwords):
                    provider.refused()
                if others <= 0:
                    raise
                others -= 1
            else:
                break
        self.connected_at = time.monotonic()
        if self.steadfast:
            await self.send_packed_command(self.pack_command("CLIENT", "NO-EVICT", "ON"), check_health=False)
            with contextlib.suppress(ResponseError):  # then it may be closed when others fill the server's buffers
                await self.read_response()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send under `asyncio.timeout`: redis-py's `wait_for` can swallow a cancellation before Python 3.12."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        limit, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit):
                await super().send_packed_command(command, check_health)
        except builtins.TimeoutError:
            raise TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit


class _PlainConnection(_Careful, Connection):
    pass


class _TlsConnection(_Careful, SSLConnection):
    pass


class _UnixConnection(_Careful, UnixDomainSocketConnection):
    """Logs in after connecting as the others do; redis-py also does it while connecting, hiding the error."""

    async def _connect(self) -> None:
        log_in, self.on_connect = self.on_connect, _nothing  # type: ignore[method-assign]
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.on_connect = log_in  # type: ignore[method-assign]


async def _nothing() -> None:
    return None


def connect(
    url: str,
    *,
    username: str | None = None,
    passwords: Callable[[], tuple[str, ...]] | None = None,
    blocking: bool = False,
    max_connections: int = 8,
    name: str | None = None,
    steadfast: bool = False,
) -> Redis:
    """A client; it connects at its first command. Raises UsageError for an unusable URL.

    `passwords` is asked at every connect and gives the candidates, the most likely first; userinfo in the URL is then
    ignored. `blocking=True` is for a client whose commands wait on the server up to `BLOCK_MS`. `name` sets the
    client's name, `steadfast` keeps the server from closing the connection for the buffers of others: both need rights
    that bots don't have.
    """
    options: dict[str, Any] = {
        "protocol": 3,
        "legacy_responses": False,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": _TIMEOUT,
        "socket_timeout": _BLOCKING_TIMEOUT if blocking else _TIMEOUT,
        "socket_read_size": 65_536,
        "health_check_interval": 0,
        "max_connections": max_connections,
        "driver_info": None,
        "client_name": name,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    try:
        pool = ConnectionPool.from_url(url, **options)
    except ValueError as error:
        raise UsageError(f"the Redis URL is unusable: {error}", hint="Expected redis://[user:password@]host:port[/db], "
                         "rediss://… or unix:///path.") from error  # fmt: skip
    kind = pool.connection_class
    if issubclass(kind, UnixDomainSocketConnection):
        pool.connection_class = _UnixConnection
        pool.connection_kwargs.pop("maint_notifications_config", None)
    else:
        pool.connection_class = _TlsConnection if issubclass(kind, SSLConnection) else _PlainConnection
    if steadfast:
        pool.connection_class = type("Steadfast", (pool.connection_class,), {"steadfast": True})
    if username is not None and passwords is not None:
        for key in ("username", "password"):
            pool.connection_kwargs.pop(key, None)
        pool.connection_kwargs["credential_provider"] = _Passwords(username, passwords)
    return Redis.from_pool(pool)


def reason(error: BaseException) -> str:
    """Why Redis can't be used, in few words without addresses' credentials."""
    if isinstance(error, AuthenticationError):
        return "redis refuses the login"
    if isinstance(error, ConnectionError | TimeoutError | OSError):
        return "redis is not reachable"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if text.startswith("MISCONF"):
        # It has words of its own for the log of commands, and the error behind them; for snapshots only a riddle.
        why = text.rpartition("AOF file: ")[2] if "AOF file: " in text else "MISCONF, its log says why"
        return f"redis can't write to its disk: {why[:120]}"
    return f"redis: {text[:120]}"
