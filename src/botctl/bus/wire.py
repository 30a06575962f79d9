"""Many commands in one write, their replies in one read.

redis-py's own pipeline costs several times more per command: it packs in Python and starts a timer for each reply.
Never retries, never raises for a single command's error: such replies are returned as exceptions.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

Argument = str | bytes | int
Command = tuple[Argument, ...]

pack: Callable[[Command], bytes] = cast(Any, hiredis.pack_command)  # its stub knows one argument only
"""One command as it goes over the wire."""


class Line:
    """One connection, held for a while: what it says is all of one server, and a lost one is never made anew."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def since(self) -> float:
        """When it was connected, on the monotonic clock."""
        return float(self._connection.connected_at)

    async def execute(self, commands: Sequence[Command], *, timeout: float = 10.0) -> list[Any]:
        """As the function of this name; once it has raised, this line is of no use any more."""
        if not self._connection.is_connected:
            raise ConnectionError("the connection to Redis was lost")
        try:
            await self._connection.send_packed_command(b"".join(map(pack, commands)), check_health=False)
            replies: list[Any] = []
            try:
                async with asyncio.timeout(timeout):
                    for _ in commands:
                        try:
                            replies.append(await self._connection.read_response(timeout=math.inf))
                        except ResponseError as error:
                            replies.append(error)
            except builtins.TimeoutError:
                raise TimeoutError("Redis didn't answer in time") from None
            return replies
        except BaseException:
            await self.hang_up()
            raise

    async def forget_watches(self) -> None:
        """Whoever has the connection next watches nothing. Closes it if that can't be made sure."""
        try:
            if self._connection.is_connected:
                await self.execute([("UNWATCH",)], timeout=1.0)
        except (OSError, RedisError):
            pass  # It is closed, which does as well.

    async def hang_up(self) -> None:
        """Close the connection, and with it whatever is watched over it."""
        await asyncio.shield(self._connection.disconnect(nowait=True))


@asynccontextmanager
async def line(redis: Redis) -> AsyncIterator[Line]:
    """A connection of the client's for oneself. Raises what connecting raises."""
    pool: Any = redis.connection_pool
    connection = await pool.get_connection()
    try:
        yield Line(connection)
    finally:
        await asyncio.shield(pool.release(connection))


async def execute(redis: Redis | Line, commands: Sequence[Command], *, timeout: float = 10.0) -> list[Any]:
    """Send all commands and return their replies in order, errors of single commands as exceptions.

    `timeout` is for the whole, in seconds. Raises redis-py's ConnectionError or TimeoutError; what was done by then is
    unknown. A cancelled or failed call closes its connection, so that no reply is taken for another's.
    """
    if not commands:
        return []
    if isinstance(redis, Line):
        return await redis.execute(commands, timeout=timeout)
    async with line(redis) as held:
        return await held.execute(commands, timeout=timeout)


async def transact(redis: Redis | Line, commands: Sequence[Command], *, timeout: float = 10.0) -> list[Any]:
    """All commands in one MULTI, or none of them.

    Raises what the server refused while queueing (then nothing was done), or as `execute` does (then it's unknown). A
    command that fails only when executed is returned as an exception; the others were done.
    """
    replies = await execute(redis, [("MULTI",), *commands, ("EXEC",)], timeout=timeout)
    result = replies[-1]
    if isinstance(result, BaseException):
        for reply in replies[:-1]:
            if isinstance(reply, BaseException):
                raise reply
        raise result
    if not isinstance(result, list) or len(result) != len(commands):
        raise ConnectionError("unexpected reply to EXEC")
    return result
