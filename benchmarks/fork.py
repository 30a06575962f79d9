"""How long one fork takes, asked of the real forkserver with everything imported: quiet, then beside busy loops.

    python benchmarks/fork.py [FORKS] [LOOPS]

What FORK_TIMEOUT of `runtime/fork_client.py` is chosen by. Children end at once, they are given no configuration.
"""

from __future__ import annotations

import os
import queue
import select
import statistics
import subprocess
import sys
import time

from botctl.cli.daemon import PRELOAD
from botctl.runtime import linux
from botctl.runtime.launcher import ForkserverUp, Launched, Launcher, Result
from botctl.runtime.spawn import SpawnRequest


def measure(launcher: Launcher, results: queue.SimpleQueue[Result], forks: int) -> list[float]:
    """Milliseconds of each fork, from the request to the answer."""
    taken = []
    for token in range(1, forks + 1):
        commands, ours = os.pipe()
        null = [os.open(os.devnull, os.O_WRONLY) for _ in range(3)]
        begun = time.perf_counter()
        launcher.fork(token, SpawnRequest(id=token, name="x", entry="os:abort", mark="1/1"), (commands, *null))
        result = results.get(timeout=60)
        taken.append((time.perf_counter() - begun) * 1e3)
        assert isinstance(result, Launched), result
        assert result.pid is not None, result.error
        os.close(ours)
        os.waitpid(result.pid, 0)
        select.select([], [], [], 0.02)
    return taken


def main() -> None:
    """Measure and print."""
    forks = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    loops = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    linux.adopt_orphans()
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    launcher = Launcher(PRELOAD, lambda: os.open(os.devnull, os.O_WRONLY), results.put)
    launcher.start()
    up = results.get(timeout=120)
    assert isinstance(up, ForkserverUp), up
    busy = []
    try:
        for name, count in (("quiet", 0), (f"beside {loops} busy loops", loops)):
            busy += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
            taken = sorted(measure(launcher, results, forks))
            print(
                f"{name}: median {statistics.median(taken):.1f} ms, p99 {taken[int(forks * 0.99) - 1]:.1f} ms,"
                f" worst {taken[-1]:.1f} ms of {forks}"
            )
    finally:
        for process in busy:
            process.kill()
            process.wait()
        launcher.stop(5)


if __name__ == "__main__":
    main()
