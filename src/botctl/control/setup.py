"""The one-shot set-up process: the only one with the administrator's logins. Prepares both servers, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec
import setproctitle

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import AWAY, connect, reason
from botctl.bus.topology import ServerVersion, Topology
from botctl.errors import BotctlError
from botctl.handover import SetupConfig, SetupResult
from botctl.observability.logs import configure
from botctl.observability.redaction import Redactor
from botctl.runtime import messages
from botctl.runtime.channel import Channel
from botctl.storage.bootstrap import Prepared, checkpoint, prepare

_RETRY_EVERY = 0.05
_LONG = 3.0


def main(channel: Channel) -> int:
    """Prepare PostgreSQL and Redis; report the result, or what the operator must do."""
    config = msgspec.json.decode(channel.configure.config, type=SetupConfig)
    setproctitle.setproctitle("botctl: setup")
    configure("setup", redactor=Redactor([config.database_url, config.redis_url]))
    try:
        database, redis = asyncio.run(_prepare(config, channel))
    except BotctlError as error:
        detail = f"{error.message}\nhint: {error.hint}" if error.hint else error.message
        channel.send(messages.Failing(failure=messages.Failure.CODE, detail=detail))
        return 1
    result = SetupResult(
        control=database.control,
        postgres_version=database.version,
        redis_version=str(redis),
        migrated_from=database.migrated_from,
        migrated_to=database.migrated_to,
        master_checks=database.master_checks,
    )
    channel.send(messages.SetupDone(result=msgspec.Raw(msgspec.json.encode(result))))
    if config.own_database and result.migrated_from != result.migrated_to:
        # The others begin meanwhile. Without it a server that is killed in its first minutes has all the new tables'
        # files to write again before it takes logins: measured, 3.3 s instead of 0.9 s.
        asyncio.run(checkpoint(config.database_url))
    return 0


async def _prepare(config: SetupConfig, channel: Channel) -> tuple[Prepared, ServerVersion]:
    async with _patience(channel, "Redis", config.redis_url, config.wait):
        redis = await _reach_redis(config)
    async with _patience(channel, "PostgreSQL", config.database_url, config.wait):
        return await prepare(config.database_url, wait=config.wait), redis


@asynccontextmanager
async def _patience(channel: Channel, server: str, url: str, wait: float) -> AsyncIterator[None]:
    """Tell the operator what is waited for, when it takes long."""
    place = urlsplit(url)

    def tell() -> None:
        reason = f"waiting up to {wait:g} s for {server} at {place.hostname}:{place.port}"
        channel.send(messages.Heartbeat(health=messages.Health.PAUSED, reason=reason))

    timer = asyncio.get_running_loop().call_later(_LONG, tell)
    try:
        yield
    finally:
        timer.cancel()


async def _reach_redis(config: SetupConfig) -> ServerVersion:
    """The server's version. Raises BotctlError when it stays away, ServerUnsupportedError when it is too old."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.wait
    redis = connect(config.redis_url)
    try:
        while True:
            try:
                return await BusAdmin(redis, Topology(config.namespace)).check_version()
            except AWAY as error:
                why = reason(error)
                if "login" in why or loop.time() >= deadline:
                    place = urlsplit(config.redis_url)
                    refused = "login" in why
                    raise BotctlError(
                        f"Redis at {place.hostname}:{place.port or 6379} can't be used: {why}",
                        hint="Check user and password in BOTCTL_REDIS_URL."
                        if refused
                        else "Is the server running, and may this machine connect to it? Check BOTCTL_REDIS_URL.",
                    ) from error
            await asyncio.sleep(_RETRY_EVERY)
    finally:
        await redis.aclose()
