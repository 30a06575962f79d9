"""The launcher: one thread, as old as the daemon, that starts forkservers, children and servers.

Starting can block (a slow disk), so it never happens in the supervisor's own thread; and the thread itself waits for no
forkserver, so that a slow generation holds up neither the other nor a server. The kernel ties a child's life to the
*thread* that made it, so this thread lasts.
"""

from __future__ import annotations

import contextlib
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
from botctl.runtime.fork_client import Fork, ForkClient
from botctl.runtime.fork_client import ForkserverDown as ForkserverDown
from botctl.runtime.fork_client import ForkserverEnded as ForkserverEnded
from botctl.runtime.fork_client import ForkserverUp as ForkserverUp
from botctl.runtime.fork_client import Launched as Launched
from botctl.runtime.fork_client import Result as Result
from botctl.runtime.spawn import SpawnRequest

FIRST_GENERATION = 1


@dataclass(frozen=True)
class _Exec:
    token: int
    spec: ExecSpec
    log: int


@dataclass(frozen=True)
class _ForkFrom:
    generation: int
    fork: Fork


@dataclass(frozen=True)
class _Renew:
    generation: int


@dataclass(frozen=True)
class _Promote:
    generation: int


@dataclass(frozen=True)
class _Retire:
    generation: int


_Job = _Exec | _ForkFrom | _Renew | _Promote | _Retire | None


class Launcher:
    """Hand requests in with `fork` and `execute`; outcomes come to `report`, called in the launcher's thread.

    Descriptors handed in belong to the launcher, which closes them when the child has its own. All methods are the
    supervisor's; none of them waits but `stop`.
    """

    def __init__(self, preload: Sequence[str], forkserver_log: Callable[[], int], report: Callable[[Result], None]):
        self._preload = tuple(preload)
        self._forkserver_log = forkserver_log
        self._report = report
        self.run = secrets.token_hex(16)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
        self._clients: dict[int, ForkClient] = {}
        self._current = self._newest = FIRST_GENERATION
        self._pids: frozenset[int] = frozenset()

    @property
    def forkserver_pids(self) -> frozenset[int]:
        """Of all generations that are there or preload."""
        return self._pids

    @property
    def alive(self) -> bool:
        """False when the thread has died, so that nothing can be started any more."""
        return self._thread.ident is None or self._thread.is_alive()

    def start(self) -> None:
        """Start the thread and, in it, the forkserver."""
        self._thread.start()

    def fork(self, token: int, request: SpawnRequest, descriptors: tuple[int, ...], generation: int = 0) -> None:
        """Fork a child: from a certain generation, or from the one that serves everybody."""
        self._put(_ForkFrom(generation, Fork(token, request, descriptors)))

    def execute(self, token: int, spec: ExecSpec, log: int) -> None:
        """Run a server."""
        self._put(_Exec(token, spec, log))

    def renew(self) -> int:
        """Start another generation beside those there are: a fresh interpreter, which imports the code of today.

        Its number; `ForkserverUp` or `ForkserverDown` follows. One that died is started again, under its number.
        """
        self._newest += 1
        self._put(_Renew(self._newest))
        return self._newest

    def promote(self, generation: int) -> None:
        """This generation serves everybody from now on."""
        self._put(_Promote(generation))

    def retire(self, generation: int) -> None:
        """End a generation; the one that serves everybody stays. Bots forked from it are not touched."""
        self._put(_Retire(generation))

    def stop(self, timeout: float) -> None:
        """End the forkservers and the thread."""
        self._put(None)
        self._thread.join(timeout)

    def _put(self, job: _Job) -> None:
        self._jobs.put(job)
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        self._begin(FIRST_GENERATION)
        while True:
            self._wait()
            with contextlib.suppress(queue.Empty):
                while True:
                    job = self._jobs.get_nowait()
                    if job is None:
                        for client in self._clients.values():
                            client.end()
                        return
                    self._do(job)
            now = time.monotonic()
            for client in self._clients.values():
                client.look(now)
            self._note_pids()

    def _wait(self) -> None:
        """Until there is a job, an answer, or a silence to be judged."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        by_descriptor = {one.channel.fileno(): one for one in self._clients.values() if one.channel is not None}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.POLLIN)
        looks = [look for one in self._clients.values() if (look := one.next_look()) is not None]
        timeout = max(0.0, min(looks) - time.monotonic()) * 1e3 + 1 if looks else None
        for descriptor, _ in poller.poll(timeout):
            if descriptor == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            else:
                by_descriptor[descriptor].readable()

    def _do(self, job: _Exec | _ForkFrom | _Renew | _Promote | _Retire) -> None:
        match job:
            case _ForkFrom(generation, fork):
                self._clients.get(generation, self._clients[self._current]).fork(fork)
            case _Exec():
                self._do_exec(job)
            case _Renew(generation):
                self._begin(generation)
            case _Promote(generation):
                if generation in self._clients:
                    self._current = generation
            case _Retire(generation):
                if generation != self._current and (client := self._clients.pop(generation, None)) is not None:
                    client.end()
        self._note_pids()

    def _begin(self, generation: int) -> None:
        self._clients[generation] = client = ForkClient(generation, self._spawn_forkserver, self._report)
        client.start()
        self._note_pids()

    def _note_pids(self) -> None:
        self._pids = frozenset(client.pid for client in self._clients.values() if client.pid)

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

    def _spawn_forkserver(self) -> tuple[int, socket.socket]:
        log = self._forkserver_log()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    pid = os.posix_spawn(
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
                except OSError:
                    ours.close()
                    raise
        finally:
            os.close(log)
        ours.setblocking(False)
        return pid, ours
