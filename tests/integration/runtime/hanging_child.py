"""Children that hang, break and grow, forked by the real forkserver in the tests of stacks and limits."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from botctl.runtime import messages
from botctl.runtime.channel import Channel


def main(channel: Channel) -> int:
    habit: Callable[[Channel], int] = globals()[json.loads(bytes(channel.configure.config))]
    return habit(channel)


def say(channel: Channel, text: str) -> None:
    """Tell the test something; a heartbeat's reason is free text."""
    channel.send(messages.Heartbeat(reason=text))


# --- hangs ---------------------------------------------------------------------------------------------------------


async def innermost() -> None:
    await asyncio.sleep(600)


async def middle() -> None:
    await innermost()


async def outermost() -> None:
    await middle()


async def numbers() -> AsyncIterator[int]:
    await innermost()
    yield 1


async def over_a_generator() -> None:
    async for _ in numbers():
        pass


class Awaitable:
    def __await__(self):
        return innermost().__await__()


async def over_an_awaitable() -> None:
    await Awaitable()


def keep_tasks_waiting() -> None:
    kept = [
        asyncio.create_task(outermost(), name="the waiting one"),
        asyncio.create_task(over_a_generator(), name="the iterating one"),
        asyncio.create_task(over_an_awaitable(), name="the awaiting one"),
    ]
    kept.append(asyncio.create_task(asyncio.wait_for(kept[0], 600), name="the timed one"))
    asyncio.get_running_loop().kept = kept  # type: ignore[attr-defined]


def hang_after(channel: Channel, hang: Callable[[Channel], object]) -> int:
    async def work() -> None:
        keep_tasks_waiting()
        for _ in range(5):
            await asyncio.sleep(0)
        hang(channel)

    asyncio.run(work())
    return 0


def idle_loop(channel: Channel) -> int:
    async def work() -> None:
        keep_tasks_waiting()
        await asyncio.sleep(0)
        say(channel, "hangs")
        await asyncio.sleep(600)

    asyncio.run(work())
    return 0


def blocked_loop(channel: Channel) -> int:
    return hang_after(channel, a_function_that_sleeps)


def a_function_that_sleeps(channel: Channel) -> None:
    say(channel, "hangs")
    time.sleep(600)


def busy_loop(channel: Channel) -> int:
    return hang_after(channel, a_function_that_never_ends)


def a_function_that_never_ends(channel: Channel) -> None:
    say(channel, "hangs")
    while True:
        pass


def stuck_in_c(channel: Channel) -> int:
    return hang_after(channel, a_function_that_keeps_the_interpreter)


def a_function_that_keeps_the_interpreter(channel: Channel) -> None:
    say(channel, "hangs")
    sum(itertools.repeat(0))


def stuck_in_a_pattern(channel: Channel) -> int:
    return hang_after(channel, a_function_with_a_bad_pattern)


def a_function_with_a_bad_pattern(channel: Channel) -> None:
    say(channel, "hangs")
    re.match("(a+)+$", "a" * 60 + "b")


def stuck_before_the_loop(channel: Channel) -> int:
    a_function_that_sleeps(channel)
    return 0


def loop_in_a_thread(channel: Channel) -> int:
    started = threading.Event()

    async def work() -> None:
        keep_tasks_waiting()
        await asyncio.sleep(0)
        started.set()
        await asyncio.sleep(600)

    threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
    started.wait()
    a_function_that_sleeps(channel)
    return 0


def many_tasks(channel: Channel) -> int:
    return hang_beside(channel, [deep(30), *(deep(1) for _ in range(199))])


def too_many_tasks(channel: Channel) -> int:
    return hang_beside(channel, [deep(30) for _ in range(200)])


def hang_beside(channel: Channel, work: list[Coroutine[Any, Any, None]]) -> int:
    async def hang() -> None:
        kept = [asyncio.create_task(one, name=f"{number:03}") for number, one in enumerate(work)]
        await asyncio.sleep(0)
        a_function_that_sleeps(channel)
        del kept

    asyncio.run(hang())
    return 0


async def deep(levels: int) -> None:
    if levels:
        await deep(levels - 1)
    else:
        await an_innermost_coroutine_of_a_long_name_so_that_many_of_them_fill_the_file()


async def an_innermost_coroutine_of_a_long_name_so_that_many_of_them_fill_the_file() -> None:
    await asyncio.sleep(600)


def many_threads(channel: Channel) -> int:
    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            time.sleep(600)

    for _ in range(30):
        threading.Thread(target=descend, args=(60,), daemon=True).start()
    return hang_after(channel, a_function_that_sleeps)


def works_on(channel: Channel) -> int:
    """Answers every Adjust, also after having been asked for its stacks again and again."""

    async def work() -> None:
        keep_tasks_waiting()
        say(channel, "hangs")
        while not isinstance(await channel.receive(), messages.Stop):
            say(channel, "works")

    asyncio.run(work())
    return 0


def breaks(channel: Channel) -> int:
    say(channel, "hangs")
    a_function_that_breaks()
    return 0


def a_function_that_breaks() -> None:
    ctypes.string_at(0)


# --- limits --------------------------------------------------------------------------------------------------------


def tells_its_limits(channel: Channel) -> int:
    with open("/proc/self/oom_score_adj") as score, open("/proc/self/cgroup") as groups:
        facts = {
            "nice": os.nice(0),
            "oom_score_adj": int(score.read()),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "data": resource.getrlimit(resource.RLIMIT_DATA),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "file_size": resource.getrlimit(resource.RLIMIT_FSIZE),
            "groups": groups.read(),
            "inherited": inherited_descriptors(),
        }
    say(channel, json.dumps(facts))
    return 0


def inherited_descriptors() -> list[str]:
    """What a program would get that we start without closing anything."""
    found = []
    for entry in os.scandir("/proc/self/fd"):
        try:
            if int(entry.name) > 2 and os.get_inheritable(int(entry.name)):
                found.append(os.readlink(entry.path))
        except OSError:
            continue
    return found


def writes_a_large_file(channel: Channel) -> int:
    path = f"/proc/self/fd/{os.memfd_create('large')}"
    try:
        with open(path, "wb") as file:
            file.write(b"x" * 1_000_000)
    except OSError as error:
        say(channel, f"refused: {error.strerror}")
    return 0


def takes_memory_when_told(channel: Channel) -> int:
    async def work() -> None:
        say(channel, "hangs")
        taken = []
        while isinstance(message := await channel.receive(), messages.Adjust):
            try:
                taken.append(bytearray(message.settings["bytes"]))
                say(channel, "taken")
            except MemoryError:
                say(channel, "refused")

    asyncio.run(work())
    return 0


def starts_a_program_with_a_session(channel: Channel) -> int:
    code = "import time; time.sleep(600)"
    program = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL)
    say(channel, str(program.pid))
    time.sleep(600)
    return 0
