"""A bot that has been taken over: the attacks from inside its own process, and the process that makes them.

Run by `stage.py`, with the children of `integration/runtime` as its victims.
"""

from __future__ import annotations

import asyncio
import json
import os

from attack.cases import ATTACKS
from attack.os import against_files, against_kernel, against_limits, against_processes, against_sockets
from attack.os.terrain import AREA, OPEN, Ground, attempt
from botctl.runtime import messages
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.runtime.frames import frame

__all__ = ["AREA", "NAMES", "OPEN", "main"]

_KINDS = (against_processes, against_files, against_sockets, against_kernel, against_limits)
NAMES = [name for kind in _KINDS for name, function in ATTACKS.items() if function.__module__ == kind.__name__]


def main(channel: Channel) -> int:
    channel.send(messages.Ready())

    mood = messages.Health.OK

    async def beat() -> None:
        while True:
            channel.send(messages.Heartbeat(health=mood))
            await asyncio.sleep(0.2)

    async def work() -> None:
        beating = asyncio.create_task(beat())
        while True:
            match await channel.receive():
                case messages.Stop():
                    beating.cancel()
                    return
                case messages.Adjust(settings={"frame": text}):
                    os.set_blocking(channel._reports, True)
                    os.write(channel._reports, frame(str(text).encode()))
                    nonlocal mood
                    mood = messages.Health.DEGRADED  # so that it shows that the frame has come before this
                case messages.Adjust(settings={"ground": ground, "names": names}):
                    for name in names:
                        print("attack", json.dumps({"name": name, **attempt(name, Ground(**ground))}), flush=True)
                    print("attacks over", flush=True)

    try:
        asyncio.run(work())
    except ChannelClosedError:
        return 0
    return 0
