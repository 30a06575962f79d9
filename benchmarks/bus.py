"""The event bus beside redis-py and FastStream, and how soon an event of one bot is in another's hands:
`benchmarks/bus.py [--rounds N] [--events N] [--seconds N] [--json FILE]`.

One embedded Valkey for all; publishing, routing and consuming each in a process of its own, with the product's own
relay, router and mailbox; the peers' in turns with ours, each round beginning with another one. Figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers import SkippedError, _python_package
from rounds import table

from botctl import __version__
from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.topology import Topology
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import prepare_valkey
from integration.conftest import RunningServer, server_folder

HERE = Path(__file__).parent
NAMESPACE = "bench"
STREAMS = 16
"""Bots whose out streams the router goes through."""

FASTSTREAM_PART = 10
"""FastStream is given a tenth of the events: it would take minutes."""


class Bench:
    """One server, and what is run against it."""

    def __init__(self, url: str, events: int, faststream: Path | None) -> None:
        self.url = url
        self.events = events
        self.faststream = faststream
        self.topology = Topology(NAMESPACE)
        self.rates: dict[str, list[float]] = {}

    def job(self, name: str, *numbers: int) -> subprocess.Popen[str]:
        """Begin one of `bus_work.py`."""
        command = [sys.executable, str(HERE / "bus_work.py"), name, self.url, NAMESPACE, *map(str, numbers)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def done(self, process: subprocess.Popen[str], timeout: float = 300.0) -> dict[str, float]:
        """What it has printed."""
        out, _ = process.communicate(timeout=timeout)
        if process.returncode:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        found: dict[str, float] = json.loads(out.splitlines()[-1])  # after what was logged
        return found

    def peer(self, name: str) -> float:
        """FastStream's rate."""
        assert self.faststream is not None
        count = self.events // FASTSTREAM_PART
        command = [str(self.faststream / "python"), str(HERE / "bus_faststream.py"), name, self.url, str(count)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
        return float(json.loads(out.splitlines()[-1])["rate"])

    async def fresh(self, bots: int) -> None:
        """Empty streams and groups for so many bots."""
        redis = connect(self.url)
        await redis.flushall()
        admin = BusAdmin(redis, self.topology)
        await admin.ensure_logs()
        await admin.ensure_bots({bot: ["0" * 64] for bot in range(1, bots + 1)})
        await redis.aclose()

    async def publish(self, way: str) -> float:
        """Events a second into an out stream that somebody empties."""
        await self.fresh(1)
        if way == "FastStream":
            return self.peer("publish")
        emptier = self.job("take_away", 600)
        try:
            return self.done(self.job("publish" if way == "botctl" else "publish_redis_py", self.events))["rate"]
        finally:
            emptier.kill()
            emptier.communicate()

    async def route(self, way: str) -> float:
        """Events a second from the out streams of 16 bots into a log."""
        await self.fresh(STREAMS)
        self.done(self.job("fill", STREAMS, self.events))
        return self.done(self.job("route" if way == "botctl" else "route_redis_py", STREAMS, self.events))["rate"]

    async def consume(self, way: str) -> float:
        """Events a second out of a full mailbox, acknowledged."""
        await self.fresh(1)
        if way == "FastStream":
            self.peer("publish")
            redis = connect(self.url)
            await redis.xgroup_create("peer:faststream", "bench", "0")
            await redis.aclose()
            return self.peer("consume")
        self.done(self.job("fill", 1, self.events))
        redis = connect(self.url)
        await redis.rename(self.topology.out(1), self.topology.mailbox(1))
        await redis.xgroup_create(self.topology.mailbox(1), "bot", "0")
        await redis.aclose()
        return self.done(self.job("consume" if way == "botctl" else "consume_redis_py", self.events))["rate"]

    async def deliver(self, bots: int, rate: int, seconds: int) -> dict[str, float]:
        """From outbox to hands, with everything between running as in production but PostgreSQL's commit."""
        await self.fresh(bots)
        router = self.job("serve_router", bots)
        try:
            receiver = self.job("receive", bots, rate * seconds)
            await asyncio.sleep(2.0)  # both connect
            sender = self.job("send", bots, rate, seconds)
            self.done(sender)
            return self.done(receiver)
        finally:
            router.kill()
            router.communicate()


async def measure(bench: Bench, rounds: int, seconds: int) -> dict[str, Any]:
    """All of it."""
    ways = ["botctl", "redis-py", *(["FastStream"] if bench.faststream is not None else [])]
    steps = {"publish": bench.publish, "route": bench.route, "consume": bench.consume}
    rates: dict[str, dict[str, list[float]]] = {step: {} for step in steps}
    for number in range(rounds):
        for step, work in steps.items():
            first = number % len(ways)
            for way in ways[first:] + ways[:first]:
                if (step, way) != ("route", "FastStream"):
                    rates[step].setdefault(way, []).append(await work(way))
    delays: dict[int, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for bots in (2, 100):
            delays.setdefault(bots, []).append(await bench.deliver(bots, 1_000, seconds))
    return {
        "rates": {step: {way: statistics.median(found) for way, found in ways.items()} for step, ways in rates.items()},
        "delivery_ms": {
            bots: {part: statistics.median(one[part] for one in found) for part in found[0]}
            for bots, found in delays.items()
        },
    }


def show(found: dict[str, Any], rounds: int) -> str:
    """As Markdown."""
    rows = []
    for step, rates in found["rates"].items():
        ours = rates["botctl"]
        row = [step]
        for way in ("botctl", "redis-py", "FastStream"):
            row.append(f"{rates[way]:,.0f}" if way in rates else "–")
        row += [f"{ours / rates[way]:.2f}" if way in rates else "–" for way in ("redis-py", "FastStream")]
        rows.append(row)
    first = table(("events a second", "botctl", "redis-py", "FastStream", "× redis-py", "× FastStream"), rows)
    second = table(
        ("1,000 events a second, ms", "p50", "p95", "p99", "longest"),
        [
            [f"{bots} bots", *(f"{parts[name]:.1f}" for name in ("p50", "p95", "p99", "max"))]
            for bots, parts in found["delivery_ms"].items()
        ],
    )
    return f"{first}\n\n{second}\n\nMedians of {rounds} rounds."


async def main(arguments: argparse.Namespace) -> None:
    """Install, start, measure, print."""
    print(f"botctl {__version__}, Python {platform.python_version()}, {platform.platform()}")
    with tempfile.TemporaryDirectory(prefix="botctl-bus-") as folder, server_folder() as servers:
        faststream: Path | None = None
        try:
            if not arguments.peers:
                raise SkippedError("not asked for")
            faststream, version = _python_package(Path(folder), "faststream[redis]")
            print(f"FastStream {version}")
        except SkippedError as error:
            print(f"without FastStream: {error}")
        made = prepare_valkey(servers / "valkey", max_memory_mb=2048)
        server = RunningServer(made.spec, lambda: ping_valkey(made.admin_url))
        try:
            found = await measure(
                Bench(made.admin_url, arguments.events, faststream), arguments.rounds, arguments.seconds
            )
        finally:
            server.stop()
    print(show(found, arguments.rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--seconds", type=int, default=10, help="of delivery")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave FastStream out")
    parser.add_argument("--json", type=Path)
    asyncio.run(main(parser.parse_args()))
