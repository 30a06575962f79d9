"""Children with one habit each, run by the real supervisor in `driver.py`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from botctl.runtime import messages
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.runtime.frames import HEADER


def _habit(channel: Channel) -> str:
    return json.loads(bytes(channel.configure.config))["habit"]


def main(channel: Channel) -> int:
    habit = _habit(channel)
    print(f"habit {habit}, incarnation {channel.configure.incarnation}", flush=True)
    return globals()[f"do_{habit}"](channel)


async def _work(channel: Channel, *, beats: bool = True) -> int:
    channel.send(messages.Ready())

    async def beat() -> None:
        while True:
            channel.send(messages.Heartbeat(gauges={"pid": os.getpid()}))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(beat()) if beats else None
    try:
        while True:
            match await channel.receive():
                case messages.Stop():
                    return 0
                case messages.Adjust(settings=settings):
                    print("adjusted", settings, flush=True)
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def do_well(channel: Channel) -> int:
    return asyncio.run(_work(channel))


def do_print_on_stop(channel: Channel) -> int:
    code = asyncio.run(_work(channel))
    print("last line", flush=True)
    return code


def do_crash(channel: Channel) -> int:
    raise RuntimeError("this child crashes; its token is 123456789:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc")


def do_exit_3(channel: Channel) -> int:
    return 3


def do_bad_token(channel: Channel) -> int:
    channel.send(messages.Failing(failure=messages.Failure.BAD_TOKEN, detail="Telegram says 401"))
    return 1


def do_never_ready(channel: Channel) -> int:
    time.sleep(600)
    return 0


def do_freeze(channel: Channel) -> int:
    async def freeze() -> None:
        channel.send(messages.Ready())
        channel.send(messages.Heartbeat())
        a_function_that_hangs()

    asyncio.run(freeze())
    return 0


def do_nap(channel: Channel) -> int:
    """Silent once, for longer than it may be."""

    async def work() -> int:
        asyncio.get_running_loop().call_later(0.3, time.sleep, 1.5)
        return await _work(channel)

    return asyncio.run(work())


def do_poisoned(channel: Channel) -> int:
    """Ended by one update three times, then by another; each is given up by the incarnation after those."""
    incarnation = channel.configure.incarnation
    if incarnation in (4, 7):
        channel.send(messages.GaveUp(updates=1))
    if incarnation < 7:
        raise RuntimeError("an update breaks this child")
    return asyncio.run(_work(channel))


def do_forgiven(channel: Channel) -> int:
    """Says at every start that an update was to blame, and crashes."""
    channel.send(messages.GaveUp(updates=1))
    raise RuntimeError("an update breaks this child, it says")


def a_function_that_hangs() -> None:
    time.sleep(600)


def do_ignore_stop(channel: Channel) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def work() -> None:
        channel.send(messages.Ready())
        while True:
            channel.send(messages.Heartbeat())
            await asyncio.sleep(0.1)

    asyncio.run(work())
    return 0


def do_garbage(channel: Channel) -> int:
    os.write(channel._reports, HEADER.pack(7) + b"garbage")
    time.sleep(600)
    return 0


def do_half_frame(channel: Channel) -> int:
    channel.send(messages.Ready())
    os.write(channel._reports, HEADER.pack(1000) + b"half")
    time.sleep(600)
    return 0


def do_huge_frame(channel: Channel) -> int:
    os.write(channel._reports, HEADER.pack(100 * 1024 * 1024))
    time.sleep(600)
    return 0


def do_flood(channel: Channel) -> int:
    channel.send(messages.Ready())
    os.set_blocking(channel._reports, True)
    body = messages.encode(messages.Heartbeat())
    flood = (HEADER.pack(len(body)) + body) * 500
    with suppress(ChannelClosedError, BrokenPipeError):
        while True:
            os.write(channel._reports, flood)
    return 0


def do_print_flood(channel: Channel) -> int:
    channel.send(messages.Ready())
    while True:
        os.write(1, b"x" * 4095 + b"\n")


def do_grandchild(channel: Channel) -> int:
    process = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
    print("grandchild", process.pid, flush=True)
    return asyncio.run(_work(channel))


def do_flood_unready(channel: Channel) -> int:
    os.set_blocking(channel._reports, True)
    body = messages.encode(messages.Heartbeat())
    flood = (HEADER.pack(len(body)) + body) * 500
    with suppress(ChannelClosedError, BrokenPipeError):
        while True:
            os.write(channel._reports, flood)
    return 0


def do_flap(channel: Channel) -> int:
    async def flap() -> None:
        channel.send(messages.Ready())
        while True:
            for health in (messages.Health.DEGRADED, messages.Health.OK):
                channel.send(messages.Heartbeat(health=health, reason="flapping"))
                await asyncio.sleep(0.05)

    asyncio.run(flap())
    return 0


def do_daemonize(channel: Channel) -> int:
    code = "import time; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL)
    print("grandchild", process.pid, flush=True)
    return asyncio.run(_work(channel))
