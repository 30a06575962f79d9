"""Many commands in one write, their replies in one read.

redis-py's own pipeline costs several times more per command: it packs in Python and starts a timer for each reply.
Never retries, never raises for a single command's error: such replies are returned as exceptions.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

Argument = str | bytes | int
Command = tuple[Argument, ...]

pack: Callable[[Command], bytes] = cast(Any, hiredis.pack_command)  # its stub knows one argument only
"""One command as it goes over the wire."""


async def execute(redis: Redis, commands: Sequence[Command], *, timeout: float = 10.0) -> list[Any]:
    """Send all commands and return their replies in order, errors of single commands as exceptions.

    `timeout` is for the whole, in seconds. Raises redis-py's ConnectionError or TimeoutError; what was done by then is
    unknown. A cancelled or failed call closes its connection, so that no reply is taken for another's.
    """
    if not commands:
        return []
    pool: Any = redis.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(b"".join(map(pack, commands)), check_health=False)
        replies: list[Any] = []
        try:
            async with asyncio.timeout(timeout):
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        replies.append(error)
        except builtins.TimeoutError:
            raise TimeoutError("Redis didn't answer in time") from None
        return replies
    except BaseException:
        await asyncio.shield(connection.disconnect(nowait=True))
        raise
    finally:
        await asyncio.shield(pool.release(connection))


async def transact(redis: Redis, commands: Sequence[Command], *, timeout: float = 10.0) -> list[Any]:
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
