"""What an idle bot costs and how quickly a killed one polls again: `benchmarks/footprint.py [BOTS] [KILLS]`.

Starts a whole stack (embedded servers, sandbox) with BOTS bots, waits until all run, and prints

- seconds from the start of the daemon to the last bot running,
- memory by kind of process: PSS (shared pages divided among their users) and what is private, in MB,
- milliseconds from kill -9 to the next getUpdates of that bot: median and worst of KILLS.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.stack import Stack, descendants, eventually, new_stack, token

FIRST = 7900000001


def memory(daemon: int) -> dict[str, list[tuple[float, float]]]:
    """(PSS, private) in MB of each process of a daemon, by title."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pid in (daemon, *descendants(daemon)):
        folder = Path(f"/proc/{pid}")
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b"").decode()
            if not title.startswith("botctl: "):
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        figures = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
        kind = "bot" if title.startswith("botctl: bot ") else title.removeprefix("botctl: ")
        found[kind].append((figures["Pss:"], figures["Private_Dirty:"] + figures["Private_Clean:"]))
    return found


async def measure(stack: Stack, bots: int, kills: int) -> None:
    """Print the figures of one run."""
    names = [f"bot{number}" for number in range(bots)]
    stack.write_fleet(*({"name": name, "token": token(FIRST + n)} for n, name in enumerate(names)))
    began = time.monotonic()
    stack.start()
    await stack.until_running(*names)
    print(f"{bots} bots running {time.monotonic() - began:.1f} s after `botctl start` was typed")
    assert len(descendants(stack.daemon_pid)) > bots

    async with stack.sandbox() as telegram:
        await asyncio.sleep(2.0)  # a settled, idle fleet is what is measured
        for kind, figures in sorted(memory(stack.daemon_pid).items()):
            pss, private = (statistics.median(column) for column in zip(*figures, strict=True))
            print(f"{kind:12} x {len(figures):3}   PSS {pss:6.1f} MB   private {private:6.1f} MB (medians)")

        times = []
        for _ in range(kills):
            seen = (await telegram.calls(method="getUpdates", bot_id=FIRST, limit=1))[-1]["number"]
            pid = stack.bot(names[0])["pid"]
            killed = time.time()
            os.kill(pid, signal.SIGKILL)

            async def polled(seen: int = seen) -> float | None:
                calls = await telegram.calls(method="getUpdates", bot_id=FIRST, after=seen)
                fresh = [call["at"] for call in calls if call["status"] == 200 and call["parameters"]["timeout"] == "0"]
                return fresh[0] if fresh else None

            times.append(1000 * (await eventually(polled, "polling again") - killed))
            await eventually(lambda pid=pid: stack.bot(names[0])["pid"] not in (None, pid), "a new process")
            await stack.until_running(names[0])
        print(
            f"kill -9 to polling again: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms of {kills}"
        )


def main() -> None:
    """Run once."""
    bots = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with new_stack() as stack:
        asyncio.run(measure(stack, bots, kills))


if __name__ == "__main__":
    main()
