"""What the API's access check and the threat rules cost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import sys
import tempfile
import time
import timeit
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from isolation_stage import TEXT
from rounds import Work, in_turns

from botctl.api.app import create_app
from botctl.api.token import TokenDemanded
from botctl.control.serve import make_server, unix_socket, user_of
from botctl.control.views import HealthBody
from botctl.security.threat.detection import Detector
from botctl.security.threat.leaks import LeakFinder
from botctl.security.threat.talkers import MOST_USERS, Talkers
from support.ordinary_day import traffic


class _Well:
    """The part of `control`'s service that is asked here."""

    async def health(self) -> HealthBody:
        """All is well."""
        return HealthBody(ok=True)


async def api(rounds: int) -> dict[str, float]:
    """Median seconds of a request over a kept connection: shown the token, refused, and of an API without a check."""
    token = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="botctl-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            ask = {}
            for name, wanted in (("checked", token), ("unchecked", "")):
                server = make_server(create_app(_Well(), commands=False, token=wanted))  # type: ignore[arg-type]
                path = Path(folder) / name
                listener = unix_socket(path)
                task = asyncio.create_task(server.serve(sockets=[listener]))
                stack.push_async_callback(_stop, server, task)
                ask[name] = await _connect(path, stack)
            header = f"authorization: Bearer {token}\r\n"
            wrong = f"authorization: Bearer {'0' * 64}\r\n"
            ways: dict[str, Work] = {
                "shown": _way(ask["checked"], header, b"200"),
                "refused": _way(ask["checked"], wrong, b"401"),
                "no check": _way(ask["unchecked"], header, b"200"),
            }
            return {name: steps["request"] for name, steps in (await in_turns(ways, rounds)).items()}


async def _stop(server: object, task: asyncio.Task[None]) -> None:
    server.should_exit = True  # type: ignore[attr-defined]
    await task


async def _connect(path: Path, stack: contextlib.AsyncExitStack) -> Callable[[str], Awaitable[bytes]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    stack.callback(writer.close)

    async def ask(header: str) -> bytes:
        writer.write(f"GET /healthz HTTP/1.1\r\nhost: botctl\r\n{header}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)
        return head.split(b" ", 2)[1]

    return ask


def _way(ask: Callable[[str], Awaitable[bytes]], header: str, status: bytes) -> Work:
    async def work(number: int) -> dict[str, float]:
        begun = time.perf_counter()
        answered = await ask(header)
        taken = time.perf_counter() - begun
        assert answered == status
        return {"request": taken}

    return work


def checks() -> dict[str, float]:
    """Seconds of what checks: the token at each request, the peer's name at each connection."""
    token = secrets.token_hex(32)
    guard = TokenDemanded(_nothing, token)
    headers = [(b"host", b"botctl"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"), (b"user-agent", b"botctl"),
               (b"authorization", f"Bearer {token}".encode())]  # fmt: skip
    import socket

    one, other = socket.socketpair()
    with one, other:
        return {"token": _each(lambda: guard._shown(headers)), "user": _each(lambda: user_of(one))}


async def _nothing(*_: object) -> None:
    """An application that does nothing."""


def threats() -> dict[str, float]:
    """Seconds for each: an observation judged on an ordinary day of 20 bots, an update counted by its user, a message
    looked through for secrets."""
    day = list(traffic(1, 1))
    detector = Detector()
    begun = time.perf_counter()
    for at, seen in day:
        detector.tick(seen, at)
    judged = (time.perf_counter() - begun) / sum(len(seen) for _, seen in day)
    finder = LeakFinder({"its token": f"7500000001:{secrets.token_urlsafe(26)[:35]}", "its key": secrets.token_hex(24)})
    long = (TEXT * 30)[:4096]
    many, crowd = itertools.count(), Talkers()
    for user in range(MOST_USERS):
        crowd.saw(-user - 1, 0.0)
    few, talkers = itertools.cycle(range(100)), Talkers()
    return {
        "observation": judged,
        "update": _each(lambda: talkers.saw(next(few), 0.0)),
        "update in a crowd": _each(lambda: crowd.saw(next(many), 0.0), 2000),
        "message": _each(lambda: finder.find([TEXT])),
        "long message": _each(lambda: finder.find([long]), 2000),
    }


def _each(work: Callable[[], object], number: int = 20_000) -> float:
    return min(timeit.repeat(work, number=number, repeat=3)) / number
