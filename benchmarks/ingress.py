"""The ingress for webhooks: updates stored a second, and what a flood at it costs whoever asks the API meanwhile.

`python benchmarks/ingress.py`. Two ways of serving it: in a thread of its own, as botctl does, and in the API's loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import aiohttp
from database import server

from botctl.api.app import create_app
from botctl.control.ingress.house import House
from botctl.control.serve import make_server, unix_socket
from botctl.control.views import HealthBody
from botctl.storage.bootstrap import prepare
from support.ingress_stage import ALICE, HEADER, IngressStage, message

CONNECTIONS = 40
"""Of Telegram's for one bot, by default."""


class _Well:
    """The part of `control`'s service that is asked here."""

    async def health(self) -> HealthBody:
        """All is well."""
        return HealthBody(ok=True)


async def load(url: str, secret: str, seconds: float) -> dict[str, float]:
    """Send updates over so many connections, each after the answer to the one before."""
    until, taken, codes = time.perf_counter() + seconds, list[float](), dict[int, int]()
    numbers = iter(range(1, 10**9))
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)

    async def sender(chat: int) -> None:
        while time.perf_counter() < until:
            begun = time.perf_counter()
            body = json.dumps(message(next(numbers), chat=chat)).encode()
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(url, data=body, headers={HEADER: secret}) as answer:
                    codes[answer.status] = codes.get(answer.status, 0) + 1
                taken.append(time.perf_counter() - begun)

    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(sender(chat) for chat in range(1, CONNECTIONS + 1)))
    return {
        "answers a second": sum(codes.values()) / seconds,
        **_percentiles(taken),
        **{f"{code}": n for code, n in codes.items()},
    }


async def ask(path: str, seconds: float) -> dict[str, float]:
    """Ask the API again and again over one connection."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession(connector=connector) as session:
        while time.perf_counter() < until:
            begun = time.perf_counter()
            async with session.get("http://botctl/healthz") as answer:
                await answer.read()
            taken.append(time.perf_counter() - begun)
            await asyncio.sleep(0.01)
    return _percentiles(taken)


def _percentiles(taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=100)
    return {"p50 ms": cuts[49] * 1e3, "p95 ms": cuts[94] * 1e3, "max ms": max(taken) * 1e3}


@contextlib.asynccontextmanager
async def _helper(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _figures(process: asyncio.subprocess.Process) -> dict[str, float]:
    out, _ = await process.communicate()
    found: dict[str, float] = json.loads(out)
    return found


async def measured(stage: IngressStage, seconds: float) -> dict[str, dict[str, float]]:
    """The API quiet, under updates, and under strangers."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="botctl-") as folder:
        path = f"{folder}/api.sock"
        api = make_server(create_app(_Well(), commands=False))  # type: ignore[arg-type]
        task = asyncio.create_task(api.serve(sockets=[unix_socket(Path(path))]))
        for name, secret in (("quiet", None), ("updates", stage.secret(ALICE)), ("strangers", "x" * 43)):
            async with contextlib.AsyncExitStack() as stack:
                asking = await stack.enter_async_context(_helper("--ask", path, "--seconds", str(seconds)))
                if secret is not None:
                    url = f"{stage.url}/{ALICE}"
                    loading = await stack.enter_async_context(
                        _helper("--load", url, "--secret", secret, "--seconds", str(seconds))
                    )
                    found[f"{name}: at the ingress"] = await _figures(loading)
                found[f"{name}: the API"] = await _figures(asking)
        api.should_exit = True
        await task
    return found


class _InOneLoop(IngressStage):
    """The same without a thread."""

    def serve(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.house._serve())


async def main(seconds: float, rounds: int) -> None:
    """Both ways in turns; the medians of all rounds."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {"in a thread of its own": [], "in the API's loop": []}
    with server() as url:
        login = (await prepare(url)).control
        for number in range(rounds):
            for way in sorted(found, reverse=bool(number % 2)):
                found[way].append(await _round(login, seconds, thread="thread" in way))
    for way, each in found.items():
        _print(way, {name: _medians([one[name] for one in each]) for name in each[0]})


async def _round(login: Any, seconds: float, *, thread: bool) -> dict[str, dict[str, float]]:
    if thread:
        stage = await asyncio.to_thread(IngressStage, login)
        try:
            return await measured(stage, seconds)
        finally:
            await asyncio.to_thread(stage.house.close)
    start, House.start = House.start, lambda self: None  # type: ignore[method-assign,assignment]
    one = _InOneLoop(login)
    House.start = start  # type: ignore[method-assign]
    task = one.serve()
    try:
        await asyncio.sleep(0.2)
        return await measured(one, seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.house.close()


def _medians(each: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one.get(key, 0.0) for one in each) for key in each[0]}


def _print(way: str, found: dict[str, dict[str, float]]) -> None:
    print(way)
    for name, figures in found.items():
        print(f"  {name:28}", "  ".join(f"{key} {value:.4g}" for key, value in figures.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load")
    parser.add_argument("--secret", default="")
    parser.add_argument("--ask")
    given: Any = parser.parse_args()
    if given.load:
        print(json.dumps(asyncio.run(load(given.load, given.secret, given.seconds))))
    elif given.ask:
        print(json.dumps(asyncio.run(ask(given.ask, given.seconds))))
    else:
        asyncio.run(main(given.seconds, given.rounds))
