"""Attacks on the ingress: without a secret, with another bot's, with too much of everything.

Each returns what came of it. What is slow waits for the ingress's own limits, which the tests make short.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx

from attack.cases import attack
from support.ingress_stage import ALICE, BOB, HEADER, NOBODY, IngressStage, message

AREA = "ingress"
ALIKE = "404, like every stranger"
IN_BUFFERS = 16 * 1024 * 1024
"""Bytes that the kernel may take from the sender without anybody reading them."""

CONNECTIONS, EACH = 10_000, 500
HOLD = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
print("held", flush=True)
sys.stdin.read()
"""


def _told(answers: Iterable[httpx.Response]) -> str:
    """One answer for all, or what tells them apart."""
    seen = {(one.status_code, one.content, tuple(sorted(one.headers.items()))) for one in answers}
    return ALIKE if {one[0] for one in seen} == {404} and len(seen) == 1 else str(seen)


async def _rows(stage: IngressStage) -> int:
    return sum([len(await stage.rows(bot_id)) for bot_id in (ALICE, BOB, NOBODY)])


@attack("bring an update with no secret, a wrong one, or for a bot that is not there", ALIKE, area=AREA)
async def without_a_secret(stage: IngressStage) -> str:
    async with httpx.AsyncClient() as client:
        answers = [
            await stage.send(client, ALICE, message(1), ""),
            await stage.send(client, ALICE, message(1), "x" * 43),
            await stage.send(client, ALICE, message(1), stage.secret(ALICE)[:-1]),
            await stage.send(client, ALICE, message(1), stage.secret(ALICE) + "x"),
            await stage.send(client, NOBODY, message(1), "x" * 43),
            await stage.send(client, NOBODY, message(1), stage.secret(ALICE)),
            await client.get(f"{stage.url}/{ALICE}", headers={HEADER: stage.secret(ALICE)}),
            await client.put(f"{stage.url}/{ALICE}", headers={HEADER: stage.secret(ALICE)}),
            await client.post(f"http://127.0.0.1:{stage.port}/{ALICE}", headers={HEADER: stage.secret(ALICE)}),
            await client.post(f"http://127.0.0.1:{stage.port}/", content=b"{}"),
        ]
    return _told(answers) if not await _rows(stage) else "stored"


@attack("bring updates for another bot with one's own secret", ALIKE, area=AREA)
async def with_anothers_secret(stage: IngressStage) -> str:
    async with httpx.AsyncClient() as client:
        answer = await stage.send(client, BOB, message(2), stage.secret(ALICE))
    return _told([answer]) if not await _rows(stage) else "stored"


@attack("have a body of a gigabyte read without a secret", "not read", area=AREA)
async def huge_without_a_secret(stage: IngressStage) -> str:
    sent = await _pour(stage, "x" * 43, declared=2**30)
    return "not read" if sent < IN_BUFFERS else f"{sent} bytes read"


@attack("have a body of a gigabyte read with a secret, declared or in chunks", "413, not read", area=AREA)
async def huge_with_a_secret(stage: IngressStage) -> str:
    sent = [await _pour(stage, stage.secret(ALICE), declared=declared) for declared in (2**30, None)]
    fine = all(one < IN_BUFFERS for one in sent) and stage.house.figures.refused["large"] >= 2
    return "413, not read" if fine and stage.house.room.bytes == 0 else f"{sent} bytes read"


async def _pour(stage: IngressStage, secret: str, *, declared: int | None) -> int:
    """Bytes of a body that went out before the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    length = f"Content-Length: {declared}" if declared is not None else "Transfer-Encoding: chunked"
    writer.write(f"POST /telegram/{ALICE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {secret}\r\n{length}\r\n\r\n".encode())
    block = b"x" * 65536
    piece = block if declared is not None else f"{len(block):x}\r\n".encode() + block + b"\r\n"
    sent = 0
    try:
        while sent < 64 * 1024 * 1024:
            writer.write(piece)
            await writer.drain()
            sent += len(block)
            if reader.at_eof():
                break
    except OSError:
        pass
    finally:
        writer.close()
    return sent


@attack("hold connections with heads that never end", "closed in time, others are served", area=AREA)
async def slow_heads(stage: IngressStage) -> str:
    head = f"POST /telegram/{ALICE} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode()
    return await _slow(stage, head)


@attack(
    "hold connections with a right secret and bodies that never end", "closed in time, others are served", area=AREA
)
async def slow_bodies(stage: IngressStage) -> str:
    head = (
        f"POST /telegram/{ALICE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {stage.secret(ALICE)}\r\nContent-Length: 9999\r\n\r\n"
    )
    return await _slow(stage, head.encode())


async def _slow(stage: IngressStage, head: bytes) -> str:
    """Fifty connections that send a byte now and then; how long they last, and whether others get through."""

    async def drip() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(head)
        closed = asyncio.create_task(reader.read())
        try:
            while not closed.done():
                writer.write(b"x")
                await writer.drain()
                await asyncio.wait({closed}, timeout=0.05)
            await closed
        except OSError:
            closed.cancel()
        finally:
            writer.close()

    dripping = [asyncio.create_task(drip()) for _ in range(50)]
    try:
        async with httpx.AsyncClient() as client:
            answer = await stage.send(client, BOB, message(3))
        if answer.status_code != 200:
            return f"others get {answer.status_code}"
        _, left = await asyncio.wait(dripping, timeout=10)
        return f"{len(left)} are held still" if left else "closed in time, others are served"
    finally:
        for task in dripping:
            task.cancel()


@attack("open ten thousand connections and never say a word", "few are kept, Telegram gets through", area=AREA)
async def crowd(stage: IngressStage) -> str:
    holding: list[subprocess.Popen[bytes]] = []
    codes, crowded = set(), 0
    async with httpx.AsyncClient() as client:
        await stage.send(client, BOB, message(4))
        before = _memory()
        try:
            for number in range(CONNECTIONS // EACH):
                script = [sys.executable, "-c", HOLD, str(stage.port), str(EACH)]
                held = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                holding.append(held)
                assert held.stdout is not None
                assert await asyncio.to_thread(held.stdout.readline) == b"held\n"
                crowded = max(crowded, _connections(stage.port))
                # The one connection that has shown a secret, and a new one.
                codes.add((await stage.send(client, BOB, message(5 + number))).status_code)
                async with httpx.AsyncClient() as other:
                    codes.add((await stage.send(other, ALICE, message(5 + number))).status_code)
            grown = _memory() - before
        finally:
            for held in holding:
                held.communicate()
    if codes != {200}:
        return f"others get {codes}"
    fine = crowded < 500 and grown < 64
    return "few are kept, Telegram gets through" if fine else f"{crowded} connections, {grown:.0f} MB more"


def _connections(port: int) -> int:
    """Descriptors of this process that are ours on the ingress's side: it lives in a thread here."""
    found = 0
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as made:
                    found += (
                        made.family == socket.AF_INET and made.getsockname()[1] == port and bool(made.getpeername())
                    )
    return found


def _memory() -> float:
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:"))


@attack("send JSON that explodes: a hundred thousand levels, a number of a megabyte, a key a million times",
        "a dead letter, others are served", area=AREA)  # fmt: skip
async def bombs(stage: IngressStage) -> str:
    bodies = [
        b'{"update_id": 11, "message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"update_id": 12, "message": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"update_id": 13, "message": {"x": ' + b"9" * 900_000 + b"}}",
        b'{"update_id": 14, "message": {' + b",".join(b'"a": 1' for _ in range(100_000)) + b"}}",
        b'{"update_id": 15, "x": "' + b"\\u0000" * 100_000 + b'"}',
    ]
    async with httpx.AsyncClient(timeout=30) as client:
        codes = {(await stage.send(client, ALICE, body)).status_code for body in bodies}
        codes.add((await stage.send(client, BOB, message(16))).status_code)
    known = {row["update_id"] for row in await stage.rows(ALICE)}
    kept = {11, 12, 13, 14, 15} <= known
    return "a dead letter, others are served" if codes == {200} and kept else f"{codes}, {sorted(known)}"


@attack("smuggle a second request past a proxy: two lengths, a length and chunks", "refused", area=AREA)
async def smuggling(stage: IngressStage) -> str:
    inner = json.dumps(message(21)).encode()
    heads = [
        f"Content-Length: {len(inner)}\r\nContent-Length: 0",
        f"Content-Length: {len(inner)}\r\nTransfer-Encoding: chunked",
        f"Content-Length: +{len(inner)}",
        "Transfer-Encoding: xchunked",
    ]
    for head in heads:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(
            f"POST /telegram/{ALICE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {stage.secret(ALICE)}\r\n{head}\r\n\r\n".encode()
            + inner
        )
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        if b" 200 " in line:
            return f"taken: {head}"
    return "refused" if not await stage.rows(ALICE) else "stored"


@attack("take all room with one bot's secret", "that bot's are closed or refused, others are served", area=AREA)
async def one_bots_flood(stage: IngressStage) -> str:
    head = (
        f"POST /telegram/{ALICE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {stage.secret(ALICE)}\r\nContent-Length: 99\r\n\r\n"
    )
    opened = []
    try:
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            writer.write(head.encode())
            opened.append(writer)
        async with httpx.AsyncClient() as client:
            code = (await stage.send(client, BOB, message(31))).status_code
        turned_away = stage.house.figures.refused["busy"] + stage.house.figures.pushed_out
        if code == 200 and turned_away >= 150:
            return "that bot's are closed or refused, others are served"
        return f"{code}, {turned_away} turned away"
    finally:
        for writer in opened:
            writer.close()


def _head(stage: IngressStage, bot_id: int, size: int) -> bytes:
    """Of a request with a right secret, and a body of this size."""
    lines = (
        f"POST /telegram/{bot_id} HTTP/1.1",
        "Host: x",
        f"{HEADER}: {stage.secret(bot_id)}",
        f"Content-Length: {size}",
    )
    return "\r\n".join((*lines, "", "")).encode()


@attack("take all room with one bot's secret and large bodies that are slow", "others are served", area=AREA)
async def one_bots_large_bodies(stage: IngressStage) -> str:
    size = 1024 * 1024
    head = _head(stage, ALICE, size)
    opened, codes = [], set()
    try:
        for _ in range(80):
            _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            opened.append(writer)
            writer.write(head + b"x" * (size // 2))
            with contextlib.suppress(OSError):  # some are refused in the middle
                await writer.drain()
            if len(opened) % 20 == 0:
                async with httpx.AsyncClient() as client:
                    codes.add((await stage.send(client, BOB, message(40 + len(opened), text="x" * 60_000))).status_code)
        held = stage.house.room.bytes
    finally:
        for writer in opened:
            writer.close()
    if not held:
        return "nothing was under way"
    return "others are served" if codes == {200} and held < 16 * size else f"others get {codes}, {held} bytes are held"


@attack("take all connections with one bot's secret", "newcomers are served", area=AREA)
async def one_bots_connections(stage: IngressStage) -> str:
    places = 400
    head = _head(stage, ALICE, 2)
    opened = []
    try:
        for _ in range(places):
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            opened.append(writer)
            writer.write(head + b"{}")
            if not await asyncio.wait_for(reader.readline(), 10):
                return "no answer"
        # Newcomers that are slow to show who they are, and no newcomer pushes out another.
        newcomers = []
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            opened.append(writer)
            newcomers.append((reader, writer))
        body = json.dumps(message(61)).encode()
        mine = _head(stage, BOB, len(body))
        served = 0
        for reader, writer in newcomers:
            with contextlib.suppress(OSError):
                writer.write(mine + body)
                served += b" 200 " in await asyncio.wait_for(reader.readline(), 10)
        return "newcomers are served" if served == len(newcomers) else f"{served} of {len(newcomers)} are served"
    finally:
        for writer in opened:
            writer.close()
