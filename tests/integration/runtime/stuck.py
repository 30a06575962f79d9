"""Children that get stuck, each in its own way, after some heartbeats; the supervisor has to find out where."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time

from botctl.runtime import messages
from botctl.runtime.channel import Channel


def main(channel: Channel) -> int:
    habit = json.loads(bytes(channel.configure.config))["habit"].rpartition(".")[2]
    if channel.configure.incarnation > 1:
        from children_for_tests import do_well

        return do_well(channel)

    async def work() -> None:
        waits = asyncio.create_task(a_task_that_waits(), name="waiter")
        channel.send(messages.Ready())
        for _ in range(3):
            channel.send(messages.Heartbeat())
            await asyncio.sleep(0.05)
        globals()[f"do_{habit}"]()
        await waits

    asyncio.run(work())
    return 0


async def a_task_that_waits() -> None:
    await asyncio.Event().wait()


def do_loop() -> None:
    number = 0
    while True:
        number += 1


def do_regex() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def do_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def do_sleep() -> None:
    time.sleep(600)


def do_stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
