"""The launcher's end of one generation of the forkserver: starts its process, asks it for forks, one at a time.

Never waits for an answer: the launcher's loop tells when there is something to read and when time is up. Lives in the
launcher's thread alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from botctl.runtime import linux
from botctl.runtime.spawn import SpawnReply, SpawnRequest

PRELOAD_TIMEOUT = 60.0
"""Seconds for the forkserver to import everything; 1 to 2 s are usual."""

FORK_TIMEOUT = 3.0
"""Seconds for one fork; afterwards the forkserver counts as hung and is replaced, which takes a preload.

Measured on 2 cores (`benchmarks/fork.py 200 8`): 12 ms in the median and 36 ms at worst on a quiet machine, 27 and
117 ms beside eight busy loops. Twenty-five times that; shorter would not help, since replacing takes 1 to 2 s.
"""

NUDGE_AFTER = 0.25
"""Seconds without an answer after which a forkserver that somebody has stopped (SIGSTOP) is told to go on."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
"""Seconds before a forkserver that has died is started again: doubled while it dies young, for a start keeps a
processor busy for a second or two."""

YOUNG = 60.0
"""Seconds of life, once ready, after which a forkserver that dies is started again at once."""

_DEATH_TIMEOUT = 1.0

_LAST_WORDS_TIMEOUT = 0.1
"""Seconds from the end of its channel to its own; it takes no time but when the machine is very busy."""


@dataclass(frozen=True)
class Launched:
    """Outcome of one request: the `pid`, or the `error`."""

    token: int
    pid: int | None
    error: str = ""


@dataclass(frozen=True)
class ForkserverUp:
    """A generation of the forkserver is ready, for the first time or again."""

    pid: int
    generation: int


@dataclass(frozen=True)
class ForkserverDown:
    """A generation could not be started; `error` says why."""

    error: str
    generation: int


@dataclass(frozen=True)
class ForkserverEnded:
    """A generation that was ready has died or was hung; it is being started again."""

    pid: int
    generation: int
    reason: str


Result = Launched | ForkserverUp | ForkserverDown | ForkserverEnded


@dataclass(frozen=True)
class Fork:
    """A child to be made. The descriptors are closed here when the forkserver has its own."""

    token: int
    request: SpawnRequest
    descriptors: tuple[int, ...]

    def close(self) -> None:
        """Let go of the descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class ForkClient:
    """One generation. `spawn` starts its process and gives pid and channel; it may raise OSError.

    A process that dies is replaced, after a delay if it died young; one that can't preload, at the next fork.
    """

    def __init__(
        self, generation: int, spawn: Callable[[], tuple[int, socket.socket]], report: Callable[[Result], None]
    ) -> None:
        self.generation = generation
        self.pid = 0
        self.channel: socket.socket | None = None
        self._spawn = spawn
        self._report = report
        self._pidfd = -1
        self._ready = False
        self._waiting: deque[Fork] = deque()
        self._asked: Fork | None = None
        self._deadline = 0.0
        self._nudge_at = 0.0
        self._ready_at = 0.0
        self._delay = 0.0
        self._start_at: float | None = None
        """When it is to be started again; None when that is not waited for."""

    def start(self) -> None:
        """Start the process; what it says comes to `readable`."""
        self._start_at = None
        try:
            self.pid, self.channel = self._spawn()
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            self._failed(str(error))
            return
        self._ready = False
        self._expect(PRELOAD_TIMEOUT)

    def fork(self, job: Fork) -> None:
        """Make a child as soon as those asked for before are made."""
        self._waiting.append(job)
        if self.channel is None and self._start_at is None:
            self.start()
        self._go_on()

    def readable(self) -> None:
        """The forkserver has said something, or hung up."""
        assert self.channel is not None
        try:
            body = self.channel.recv(65536)
            if not body:
                raise OSError(self._how_it_ended())
            reply = msgspec.json.decode(body, type=SpawnReply)
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError) as error:
            self._lost(str(error))
            return
        if not self._ready:
            self._preloaded(reply)
        elif self._asked is None or reply.id != self._asked.request.id:
            self._lost(f"answered request {reply.id}, which nobody has made")
            return
        else:
            asked, self._asked = self._asked, None
            self._report(Launched(asked.token, reply.pid, reply.error or ""))
        self._go_on()

    def next_look(self) -> float | None:
        """When to call `look`; None while nothing is expected."""
        if self._start_at is not None:
            return self._start_at
        if self.channel is None or (self._ready and self._asked is None):
            return None
        return min(self._deadline, self._nudge_at)

    def look(self, now: float) -> None:
        """Judge a silence, or start again what has died."""
        look = self.next_look()
        if look is None or look > now:
            return
        if self._start_at is not None:
            self.start()
            return
        if now < self._deadline:
            self._nudge_at = now + NUDGE_AFTER
            if linux.process_state(self.pid) == "T":
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
            return
        self._lost(f"no answer within {FORK_TIMEOUT if self._ready else PRELOAD_TIMEOUT:g} s")

    def end(self) -> None:
        """End the process; whoever still waits for it is told."""
        self._drop()
        self._start_at = None
        self._refuse("is being retired")

    def _preloaded(self, reply: SpawnReply) -> None:
        if reply.error is not None:
            self._failed(reply.error)
            return
        self._ready = True
        self._ready_at = time.monotonic()
        self._report(ForkserverUp(self.pid, self.generation))

    def _go_on(self) -> None:
        """Ask for the next child, if the forkserver is free."""
        if not self._ready or self._asked is not None or self.channel is None or not self._waiting:
            return
        self._asked = job = self._waiting.popleft()
        self._expect(FORK_TIMEOUT)
        try:
            socket.send_fds(self.channel, [msgspec.json.encode(job.request)], list(job.descriptors))
        except OSError as error:
            job.close()
            self._lost(str(error))
        else:
            job.close()

    def _expect(self, timeout: float) -> None:
        now = time.monotonic()
        self._deadline, self._nudge_at = now + timeout, now + NUDGE_AFTER

    def _lost(self, error: str) -> None:
        """It has died or is as good as dead. It may still have forked: it must be gone before anybody tries again."""
        if not self._ready:
            self._failed(error)
            return
        pid = self.pid
        self._drop()
        asked, self._asked = self._asked, None
        self._report(ForkserverEnded(pid, self.generation, error))
        if asked is not None:
            self._report(Launched(asked.token, None, f"forkserver: {error}"))
        now = time.monotonic()
        if now - self._ready_at >= YOUNG:
            self._delay = 0.0
            self.start()
        else:
            self._delay = min(LONGEST_DELAY, max(FIRST_DELAY, 2 * self._delay))
            self._start_at = now + self._delay

    def _failed(self, error: str) -> None:
        self._drop()
        self._refuse(error)
        self._report(ForkserverDown(error, self.generation))

    def _refuse(self, error: str) -> None:
        if self._asked is not None:
            self._report(Launched(self._asked.token, None, f"forkserver: {error}"))
            self._asked = None
        while self._waiting:
            job = self._waiting.popleft()
            job.close()
            self._report(Launched(job.token, None, f"forkserver: {error}"))

    def _how_it_ended(self) -> str:
        """Looks at the process without waiting for it, which is the supervisor's."""
        found = None
        if self._pidfd >= 0:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(_LAST_WORDS_TIMEOUT * 1e3)
            with contextlib.suppress(OSError):
                found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return "hung up"
        if found.si_code == os.CLD_EXITED:
            return f"ended with exit code {found.si_status}; `botctl logs forkserver` says why"
        return f"killed by {signal.Signals(found.si_status).name}"

    def _drop(self) -> None:
        self._ready = False
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(_DEATH_TIMEOUT * 1e3)
            os.close(self._pidfd)
            self._pidfd = -1
        elif self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)  # no descriptor was to be had for it
        self.pid = 0
        if self.channel is not None:
            self.channel.close()
            self.channel = None
