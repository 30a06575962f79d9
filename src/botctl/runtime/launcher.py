"""The launcher: one thread, as old as the daemon, that starts the forkserver, children and servers.

Starting can block (a stopped forkserver, a slow disk), so it never happens in the supervisor's own thread. Every wait
here has a deadline. The kernel ties a child's life to the *thread* that made it, so this thread lasts.
"""

from __future__ import annotations

import os
import queue
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from botctl.handover import ExecSpec
from botctl.runtime import strangers
from botctl.runtime.spawn import SpawnReply, SpawnRequest

PRELOAD_TIMEOUT = 60.0
"""Seconds for the forkserver to import everything; 1 to 2 s are usual."""

PRELOAD_POLL = 0.05
"""Seconds between looks at a forkserver that still imports, while nothing else is to be started."""

FORK_TIMEOUT = 10.0
"""Seconds for one fork, 10 ms are usual; afterwards the forkserver counts as hung and is replaced."""


@dataclass(frozen=True)
class Launched:
    """Outcome of one request: the `pid`, or the `error`."""

    token: int
    pid: int | None
    error: str = ""


@dataclass(frozen=True)
class ForkserverUp:
    """A generation of the forkserver is ready."""

    pid: int
    generation: int


@dataclass(frozen=True)
class ForkserverDown:
    """The forkserver could not be started; `error` says why."""

    error: str


Result = Launched | ForkserverUp | ForkserverDown


@dataclass(frozen=True)
class _Fork:
    token: int
    request: SpawnRequest
    descriptors: tuple[int, ...]


@dataclass(frozen=True)
class _Exec:
    token: int
    spec: ExecSpec
    log: int


@dataclass(frozen=True)
class _Gone:
    pid: int


class Launcher:
    """Hand requests in with `fork` and `execute`; outcomes come to `report`, called in the launcher's thread.

    Descriptors handed in belong to the launcher, which closes them when the child has its own.
    """

    def __init__(self, preload: Sequence[str], forkserver_log: Callable[[], int], report: Callable[[Result], None]):
        self._preload = tuple(preload)
        self._forkserver_log = forkserver_log
        self._report = report
        self.run = secrets.token_hex(16)
        self._jobs: queue.SimpleQueue[_Fork | _Exec | _Gone | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
        self._channel: socket.socket | None = None
        self._pid = 0
        self._generation = 0
        self._broken: str | None = None
        self._preloading = False
        self._preload_deadline = 0.0

    @property
    def forkserver_pid(self) -> int:
        """Of the generation that is there or preloads; 0 when there is none."""
        return self._pid

    def start(self) -> None:
        """Start the thread and, in it, the forkserver."""
        self._thread.start()

    def fork(self, token: int, request: SpawnRequest, descriptors: tuple[int, ...]) -> None:
        """Fork a child."""
        self._jobs.put(_Fork(token, request, descriptors))

    def execute(self, token: int, spec: ExecSpec, log: int) -> None:
        """Run a server."""
        self._jobs.put(_Exec(token, spec, log))

    def forkserver_gone(self, pid: int) -> None:
        """The forkserver has been seen to end; start the next generation."""
        self._jobs.put(_Gone(pid))

    def stop(self, timeout: float) -> None:
        """End the forkserver and the thread."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        self._spawn_forkserver()
        while True:
            try:
                # Servers start while the forkserver still imports; a child has to wait for it.
                job = self._jobs.get(timeout=PRELOAD_POLL if self._preloading else None)
            except queue.Empty:
                self._await_forkserver(0.0)
                continue
            match job:
                case None:
                    self._drop_forkserver()
                    return
                case _Fork():
                    self._do_fork(job)
                case _Exec():
                    self._do_exec(job)
                case _Gone(pid):
                    if pid == self._pid and self._broken is None:
                        self._drop_forkserver()
                        self._spawn_forkserver()

    def _do_fork(self, job: _Fork) -> None:
        try:
            if self._channel is None:
                self._spawn_forkserver()
            if self._preloading:
                self._await_forkserver(max(0.0, self._preload_deadline - time.monotonic()))
            reply = self._ask(job)
        except OSError as error:
            # A forkserver that doesn't answer may still fork: it must be dead before anybody tries again.
            self._drop_forkserver()
            reply = SpawnReply(id=job.token, error=f"forkserver: {error}")
        finally:
            for descriptor in job.descriptors:
                os.close(descriptor)
        self._report(Launched(job.token, reply.pid, reply.error or ""))

    def _ask(self, job: _Fork) -> SpawnReply:
        if self._channel is None:
            raise OSError(self._broken or "not running")
        socket.send_fds(self._channel, [msgspec.json.encode(job.request)], list(job.descriptors))
        reply = self._receive(self._channel, FORK_TIMEOUT)
        if reply.id != job.request.id:
            raise OSError(f"answered request {reply.id} instead of {job.request.id}")
        return reply

    def _do_exec(self, job: _Exec) -> None:
        descriptors = [job.log]
        try:
            source, sink = os.pipe()
            descriptors += [source, sink]
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("exec_child.py")), str(os.getpid())],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, source, 0),
                    (os.POSIX_SPAWN_DUP2, job.log, 1),
                    (os.POSIX_SPAWN_DUP2, job.log, 2),
                ],
                setsigdef=[signal.SIGPIPE, signal.SIGINT],
            )
            os.write(sink, msgspec.json.encode(job.spec))
        except OSError as error:
            self._report(Launched(job.token, None, f"cannot start {job.spec.name}: {error}"))
        else:
            self._report(Launched(job.token, pid))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _spawn_forkserver(self) -> None:
        self._generation += 1
        try:
            log = self._forkserver_log()
        except OSError as error:
            self._fail(str(error))
            return
        ours: socket.socket | None = None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [
                        *(sys.executable, "-P", "-m", "botctl.runtime.forkserver", str(os.getpid())),
                        *self._preload,
                    ],
                    {**os.environ, strangers.RUN: self.run},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, log, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                    ],
                    setsid=True,
                )
        except OSError as error:
            if ours is not None:
                ours.close()
            self._fail(str(error))
        else:
            self._channel = ours
            self._broken = None
            self._preloading = True
            self._preload_deadline = time.monotonic() + PRELOAD_TIMEOUT
        finally:
            os.close(log)

    def _await_forkserver(self, timeout: float) -> None:
        """Take the forkserver's first word, if it comes in time; without it at the deadline, the forkserver failed."""
        assert self._channel is not None
        readable, _, _ = select.select([self._channel], [], [], timeout)
        if not readable and time.monotonic() < self._preload_deadline:
            return
        self._preloading = False
        try:
            reply = self._receive(self._channel, 0.0)
            if reply.error is not None:
                raise OSError(reply.error)
        except OSError as error:
            self._fail(str(error))
        else:
            self._report(ForkserverUp(self._pid, self._generation))

    def _fail(self, error: str) -> None:
        self._drop_forkserver()
        self._broken = error
        self._report(ForkserverDown(error))

    def _drop_forkserver(self) -> None:
        self._preloading = False
        self._kill_forkserver()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _kill_forkserver(self) -> None:
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                self._pid = 0

    @staticmethod
    def _receive(channel: socket.socket, timeout: float) -> SpawnReply:
        readable, _, _ = select.select([channel], [], [], timeout)
        if not readable:
            raise OSError(f"no answer within {timeout:g} s")
        body = channel.recv(65536)
        if not body:
            raise OSError("ended; its log says why")
        return msgspec.json.decode(body, type=SpawnReply)
