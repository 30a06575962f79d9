"""What `doctor` finds of a Redis server that is the operator's own: what a bot could do to it, or lose in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botctl.cli.findings import Finding, Verdict

if TYPE_CHECKING:
    from redis.asyncio import Redis

_MB = 1024 * 1024
_ENOUGH_FOR_A_REPLY = 64 * _MB
"""The largest entry that a bot can append must fit into a reply, or the router can't read it."""

_CONNECTIONS_OF_OURS, _CONNECTIONS_A_BOT = 32, 6


async def redis_findings(redis: Redis, bots: int) -> list[Finding]:
    """Of the server behind BOTCTL_REDIS_URL. Asks, changes nothing; what may not be asked is a finding too."""
    from redis.exceptions import ResponseError

    try:
        reply: Any = await redis.config_get("*")
    except ResponseError:
        hint = "Give the administrator +config|get, or look at the server yourself."
        unread = Finding(Verdict.WARN, "redis limits", "can't be read: CONFIG GET is refused", hint)
        return [unread, *await _open(redis), *await _rights(redis)]
    settings = {_text(name): _text(value) for name, value in reply.items()}
    return [*_limits(settings, bots), *await _open(redis), *await _rights(redis)]


def _limits(settings: Mapping[str, str], bots: int) -> Iterator[Finding]:
    """Of CONFIG GET."""
    most = _number(settings.get("maxmemory"))
    if not most:
        hint = "Set it, for example `maxmemory 256mb`: the bus keeps to shares of it."
        yield Finding(Verdict.WARN, "maxmemory", "none: a bot can fill the machine's memory", hint)
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        said = f"{policy}: when memory is full the server deletes streams with events in them"
        yield Finding(Verdict.FAIL, "maxmemory-policy", said, "Set it to noeviction.")
    if settings.get("maxmemory-clients", "0") in ("0", "0%"):
        hint = "Set it, for example `maxmemory-clients 20%`."
        said = "none: buffers of one bot's connections can refuse the events of all"
        yield Finding(Verdict.WARN, "maxmemory-clients", said, hint)
    words = settings.get("client-output-buffer-limit", "").split()
    hard = next((_number(words[at + 1]) for at in range(0, len(words) - 1, 4) if words[at] == "normal"), 0)
    if not hard:
        hint = "Set it, for example `client-output-buffer-limit normal 64mb 0 0`."
        said = "none for clients: a bot that asks for much and never reads can hold the server up for seconds"
        yield Finding(Verdict.WARN, "client-output-buffer-limit", said, hint)
    elif hard < _ENOUGH_FOR_A_REPLY:
        hint = "Set the first number of `normal` to 64mb or more."
        said = f"{hard // _MB} MB for clients: a bot can append an entry that the router can't read"
        yield Finding(Verdict.WARN, "client-output-buffer-limit", said, hint)
    if _number(settings.get("client-query-buffer-limit")) > 64 * _MB:
        hint = "Set it to 8mb."
        yield Finding(Verdict.WARN, "client-query-buffer-limit", "more than 64 MB for one connection", hint)
    if _number(settings.get("proto-max-bulk-len")) > 64 * _MB:
        hint = "Set it to 1mb, unless others keep larger values."
        yield Finding(Verdict.WARN, "proto-max-bulk-len", "more than 64 MB in one value of a command", hint)
    needed = _CONNECTIONS_OF_OURS + _CONNECTIONS_A_BOT * bots
    if 0 < _number(settings.get("maxclients")) < needed:
        said = f"{settings['maxclients']}; this fleet may need {needed}"
        yield Finding(Verdict.WARN, "maxclients", said, f"Raise it to {needed} at least.")
    if settings.get("appendonly", "yes") == "no":
        hint = "Set `appendonly yes`; without it events of the logs are gone after a restart, unrouted ones come again."
        yield Finding(Verdict.WARN, "appendonly", "no: a restart of the server forgets the logs and mailboxes", hint)


async def _open(redis: Redis) -> list[Finding]:
    """Who needs no password has the default user's rights: a bot, too, that sheds its own login."""
    from botctl.bus.wire import execute

    (user,) = await execute(redis, [("ACL", "GETUSER", "default")])
    if isinstance(user, BaseException) or user is None:
        return []
    pairs = user.items() if isinstance(user, Mapping) else zip(user[::2], user[1::2], strict=True)
    flags: Any = next((value for name, value in pairs if _text(name) == "flags"), [])
    told = {_text(flag) for flag in flags}
    if "nopass" not in told or "off" in told:
        return []
    hint = "Give it a password (`requirepass`, or `ACL SETUSER default resetpass >PASSWORD`), and the URL too."
    said = "has no password: whoever reaches the server, a bot too, has its rights"
    return [Finding(Verdict.FAIL, "redis default user", said, hint)]


async def _rights(redis: Redis) -> list[Finding]:
    """What the sentry needs. NO-EVICT of this connection is ended with it."""
    from botctl.bus.wire import execute

    (reply,) = await execute(redis, [("CLIENT", "NO-EVICT", "ON")])
    if not isinstance(reply, BaseException):
        return []
    hint = "Give the administrator +client."
    said = "CLIENT is refused: a bot that takes too many connections can't be kept off the server"
    return [Finding(Verdict.WARN, "redis administrator", said, hint)]


def _number(value: str | None) -> int:
    return int(value) if value is not None and value.isdecimal() else 0


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
