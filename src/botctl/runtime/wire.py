"""The supervisor's talk with its children: frames out and in over their pipes, within their budgets. Never waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from botctl.errors import ProtocolError
from botctl.runtime import messages
from botctl.runtime.children import FRAMES_PER_SECOND, Child, Kind
from botctl.runtime.loop import READABLE, WRITABLE, Loop


class Wire:
    """`on_message` gets every report in order, `on_abuse` is told when a child broke the protocol or doesn't read."""

    def __init__(
        self,
        loop: Loop,
        on_message: Callable[[Child, messages.ControlUpward], None],
        on_abuse: Callable[[Child, str], None],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_abuse = on_abuse

    def listen(self, child: Child) -> None:
        """Take the child's reports from now on."""
        if child.pipes is not None:
            self._loop.watch(child.pipes.reports, READABLE, lambda: self._readable(child))

    def send(self, child: Child, message: messages.Message) -> None:
        """Send a frame; nothing happens when there is no process to send it to."""
        if child.pipes is None:
            return
        try:
            child.pipes.send(messages.encode(message))
        except ProtocolError as error:
            self._on_abuse(child, str(error))
            return
        self._watch_writer(child)

    def read(self, child: Child) -> bool:
        """Take one read's worth of reports; False when there is nothing more to come."""
        pipes = child.pipes
        if pipes is None:
            return False
        try:
            bodies, ended = pipes.read()
            if child.kind is Kind.BOT and not child.allowance.take(len(bodies), time.monotonic()):
                raise ProtocolError(f"more than {FRAMES_PER_SECOND} frames a second")
            decode = messages.decode_control if child.kind is Kind.CONTROL else messages.decode_upward
            for body in bodies:
                self._on_message(child, decode(body))
        except ProtocolError as error:
            self._hang_up(child)
            self._on_abuse(child, str(error))
            return False
        if ended:
            self._hang_up(child)
        return bool(bodies) and not ended

    def _readable(self, child: Child) -> None:
        self.read(child)

    def _hang_up(self, child: Child) -> None:
        if child.pipes is not None and not child.pipes.closed:
            self._loop.forget(child.pipes.reports)

    def _writable(self, child: Child) -> None:
        if child.pipes is not None:
            child.pipes.flush()
            self._watch_writer(child)

    def _watch_writer(self, child: Child) -> None:
        pipes = child.pipes
        if pipes is None or pipes.closed:
            return
        watched = self._loop.watches(pipes.writer)
        if pipes.wants_to_write and not watched:
            self._loop.watch(pipes.writer, WRITABLE, lambda: self._writable(child))
        elif watched and not pipes.wants_to_write:
            self._loop.forget(pipes.writer)
