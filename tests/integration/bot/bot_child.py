"""The other side of the tests' bot processes: what runs in the forked child."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection


def run(commands: Connection, reports: Connection, log: str) -> None:
    """Be a bot; its output goes to the file `log`."""
    from botctl.bot.process import main
    from botctl.runtime.channel import Channel, ChannelClosedError

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        channel = Channel(commands.fileno(), reports.fileno())
        code = main(channel)
        channel.flush()
    except ChannelClosedError:
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
