"""Takes what the launcher answers: a process that has begun, one that couldn't, news of forkservers.

A process that nobody wants any more, or whose end nobody could see, is killed before it is one of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from botctl.runtime.children import Children
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.exits import Exits
from botctl.runtime.generations import Generations
from botctl.runtime.launcher import ForkserverDown, Launched, Result
from botctl.runtime.shutdown import Shutdown
from botctl.runtime.starter import Starter
from botctl.runtime.wire import Wire
from botctl.supervision import events


class Launches:
    """`forkserver_down` is told when the forkserver that serves everybody can't start, and why."""

    def __init__(
        self,
        *,
        children: Children,
        starter: Starter,
        wire: Wire,
        exits: Exits,
        dispatcher: Dispatcher,
        generations: Generations,
        shutdown: Shutdown,
        forkserver_down: Callable[[str], None],
    ) -> None:
        self._children = children
        self._starter = starter
        self._wire = wire
        self._exits = exits
        self._dispatcher = dispatcher
        self._generations = generations
        self._shutdown = shutdown
        self._forkserver_down = forkserver_down

    def take(self, result: Result) -> None:
        """An answer, in the loop's thread."""
        match result:
            case Launched():
                self._launched(result)
            case _ if self._shutdown.begun:
                pass  # they are ended
            case _:
                self._generations.take(result)
                if isinstance(result, ForkserverDown) and result.generation == self._generations.promoted:
                    self._forkserver_down(result.error)

    def abandon(self) -> None:
        """The launcher gives no more answers: what has been asked for comes to nothing."""
        for answer in self._starter.abandoned():
            self._launched(answer)

    def _launched(self, result: Launched) -> None:
        key, incarnation = self._starter.answered(result)
        child = self._children.get(key)
        current = child is not None and child.record.incarnation == incarnation
        if result.pid is None:
            if child is not None and current:
                self._starter.release(child)
                self._dispatcher.dispatch(child, events.SpawnFailed(result.error))
            return
        if child is None or not current:
            with contextlib.suppress(ProcessLookupError):
                os.kill(result.pid, signal.SIGKILL)
            return
        try:
            child.pidfd = os.pidfd_open(result.pid)
        except OSError as error:
            # No descriptors: nobody could see it end, so it must not begin.
            with contextlib.suppress(ProcessLookupError):
                os.kill(result.pid, signal.SIGKILL)
            self._starter.release(child)
            self._dispatcher.dispatch(child, events.SpawnFailed(f"cannot be watched: {error.strerror or error}"))
            return
        child.token = result.token
        self._exits.watch(child)
        self._dispatcher.dispatch(child, events.Spawned(result.pid))
        # Not before: what a child says counts once we know who it is.
        self._wire.listen(child)
        if child.exec is not None:
            self._dispatcher.dispatch(child, events.BecameReady())
