"""A daemon under test: `driver.py` in a process of its own, told what to do, and heard."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Entry = dict[str, Any]
QUICK = {"heartbeat_timeout": 1.0, "ready_timeout": 3.0, "stop_timeout": 0.5, "term_timeout": 0.3}


class Daemon:
    """One driver process; `wait` takes entries of its log until one fits."""

    def __init__(self, folder: Path, fleet: dict[str, dict[str, Any]], limit: int = 0) -> None:
        self.folder = folder
        self.seen: list[Entry] = []
        self._pings = 0
        self._entries: queue.Queue[Entry | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py"), str(folder), json.dumps(fleet), str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._entries.put(json.loads(line))
        self._entries.put(None)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, fits: Callable[[Entry], bool], timeout: float = 15.0) -> Entry:
        deadline = time.monotonic() + timeout
        while True:
            try:
                entry = self._entries.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"did not happen in {timeout} s; seen: {self.seen[-20:]}") from None
            assert entry is not None, f"the daemon ended; seen: {self.seen[-20:]}"
            self.seen.append(entry)
            if fits(entry):
                return entry

    def wait_state(self, name: str, state: str, timeout: float = 15.0, **more: Any) -> Entry:
        wanted = {"event": f"bot {state}", "name": name, **more}
        return self.wait(lambda entry: wanted.items() <= entry.items(), timeout)

    def wait_state_of_any(self, state: str) -> Entry:
        return self.wait(lambda entry: entry["event"] == f"bot {state}")

    def wait_running(self, *names: str) -> list[Entry]:
        entries: dict[str, Entry] = {}

        def note(entry: Entry) -> bool:
            if entry["event"] == "bot running":
                entries[entry["name"]] = entry
            return set(names) <= set(entries)

        self.wait(note)
        return [entries[name] for name in names]

    def wait_death(self, name: str, **more: Any) -> Entry:
        """The lifecycle record of the next end of an incarnation."""

        def fits(entry: Entry) -> bool:
            record = entry.get("record", {})
            return record.get("name") == name and bool(record.get("exit")) and more.items() <= record.items()

        return self.wait(fits)["record"]

    def snapshot(self) -> Entry:
        """What the supervisor sees now."""
        self.say("snapshot")
        return self.wait(lambda entry: entry["event"] == "snapshot")["snapshot"]

    def ping(self) -> float:
        """Seconds of a round trip through the supervisor's loop."""
        self._pings += 1
        number, began = str(self._pings), time.monotonic()
        self.say(f"ping {number}")
        self.wait(lambda entry: entry["event"] == "pong" and entry["number"] == number)
        return time.monotonic() - began

    def measure(self) -> Entry:
        """What has been measured since the last time (`Driver.do_measure`)."""
        self.say("measure")
        return self.wait(lambda entry: entry["event"] == "measured")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        threading.Event().wait(0.01)
