"""Servers started and started again as the daemon does it, with the test process in the place of the supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from botctl import runtime
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.handover import ExecSpec

_EXEC_CHILD = Path(runtime.__file__).with_name("exec_child.py")
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Supervised:
    """One server, of one specification; whoever loses it as a parent becomes ours, as the supervisor's."""

    def __init__(self, spec: ExecSpec, url: str) -> None:
        self._spec = spec
        self._is_ready = lambda: (ping_postgres if url.startswith("postgresql") else ping_valkey)(url)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._family: set[int] = set()
        self.start()

    def start(self) -> None:
        """Start it, as after each of its ends, and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_EXEC_CHILD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={},
        )
        assert self._process.stdin is not None
        with self._process.stdin as told:
            told.write(msgspec.json.encode(self._spec))
        deadline = time.monotonic() + 30.0
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._spec.name} does not answer:\n{self.output()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """KILL the server's main process alone."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._family |= {int(pid) for pid in children.split()}
        self._process.kill()
        self._process.wait()

    def output(self) -> str:
        """All it has written so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    def end(self) -> None:
        """End the server and what is left of those before it."""
        if self._process.poll() is None:
            self._process.send_signal(self._spec.stop_signal)
            try:
                self._process.wait(self._spec.stop_timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in self._family:
            with contextlib.suppress(ChildProcessError):  # those that have ended with their server were never ours
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        self._log.close()


@pytest.fixture
def supervised() -> Iterator[Callable[[ExecSpec, str], Supervised]]:
    """Starts a server by the path that the daemon takes."""
    servers: list[Supervised] = []

    def start(spec: ExecSpec, url: str) -> Supervised:
        servers.append(Supervised(spec, url))
        return servers[-1]

    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield start
    finally:
        for server in servers:
            server.end()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
