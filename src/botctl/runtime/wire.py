"""The supervisor's talk with its children: frames out and in over their pipes, within their budgets. Never waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from botctl.errors import ProtocolError
from botctl.runtime import messages
from botctl.runtime.children import FRAMES_PER_SECOND, Child, Kind
from botctl.runtime.loop import READABLE, WRITABLE, Loop
from botctl.runtime.pipes import ChildPipes

AT_ONCE = 8
"""Messages of one child that are handled before the others have their turn; most send one or two a second."""

LONG_FRAME = 2048
"""Bytes up to which a frame counts as one; a longer one counts as several."""

DRAIN_READS = 16
"""Reads of a dead child's reports, so that its last words are heard."""


class Wire:
    """`on_message` gets every report in order, `on_abuse` is told when a child broke the protocol or doesn't read.

    A child that has sent much isn't read again before that has been handled, a few messages at a time.
    """

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
        pipes = child.pipes
        if pipes is not None and not pipes.put_off and not self._loop.watches(pipes.reports):
            look = self._blaming(child, lambda: self.look(child))
            self._loop.watch(pipes.reports, READABLE, look, patient=child.kind is Kind.BOT)

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

    def _read(self, child: Child) -> None:
        pipes = child.pipes
        if pipes is None:
            return
        try:
            if not pipes.backlog:
                self._fill(child, pipes)
            self._handle(child, pipes)
        except ProtocolError as error:
            self._refuse(child, pipes, error)

    def drain(self, child: Child) -> None:
        """Take all that a child has said which has ended; of its heartbeats only the last, the others are history."""
        pipes = child.pipes
        if pipes is None:
            return
        found: list[messages.ControlUpward] = []
        try:
            for _ in range(DRAIN_READS):
                if not self._fill(child, pipes):
                    break
            found += [self._decode(child, body) for body in pipes.backlog]
        except ProtocolError as error:
            self._refuse(child, pipes, error)
        pipes.backlog.clear()
        beats = [place for place, message in enumerate(found) if isinstance(message, messages.Heartbeat)]
        try:
            for place, message in enumerate(found):
                if [place] == beats[-1:] or not isinstance(message, messages.Heartbeat):
                    self._on_message(child, message)
        except ProtocolError as error:
            self._refuse(child, pipes, error)

    def look(self, child: Child) -> None:
        """Take a few of the reports that have come, and the others soon."""
        pipes = child.pipes
        self._read(child)
        if pipes is not None and pipes.backlog and not pipes.put_off and child.pipes is pipes:
            pipes.put_off = True
            self._loop.forget(pipes.reports)
            self._loop.defer(self._blaming(child, lambda: self._go_on(child, pipes)))

    def _go_on(self, child: Child, pipes: ChildPipes) -> None:
        if child.pipes is not pipes:
            return
        if pipes.backlog:
            self._read(child)
        if pipes.backlog:
            self._loop.defer(self._blaming(child, lambda: self._go_on(child, pipes)))
            return
        pipes.put_off = False
        if child.pipes is pipes and not pipes.ended:
            self.listen(child)

    def _blaming(self, child: Child, function: Callable[[], None]) -> Callable[[], None]:
        """The function, and if it fails it is the child's fault: what it has said can't be dealt with."""

        def work() -> None:
            try:
                function()
            except Exception as error:
                if child.pipes is not None:
                    self._refuse(child, child.pipes, ProtocolError(f"can't be dealt with: {type(error).__name__}"))
                raise

        return work

    def _fill(self, child: Child, pipes: ChildPipes) -> bool:
        """Read once; whether there may be more."""
        if pipes.ended:
            return False
        bodies, ended = pipes.read()
        if ended:
            self._hang_up(pipes)
        if child.kind is Kind.BOT:
            number = len(bodies) + sum(len(body) // LONG_FRAME for body in bodies)
            if not child.allowance.take(number, time.monotonic()):
                raise ProtocolError(f"more than {FRAMES_PER_SECOND} frames a second, or longer ones than usual")
        pipes.backlog.extend(bodies)
        return bool(bodies)

    def _handle(self, child: Child, pipes: ChildPipes) -> None:
        for _ in range(AT_ONCE):
            if not pipes.backlog or child.pipes is not pipes:
                return
            self._on_message(child, self._decode(child, pipes.backlog.popleft()))

    @staticmethod
    def _decode(child: Child, body: bytes) -> messages.ControlUpward:
        return messages.decode_control(body) if child.kind is Kind.CONTROL else messages.decode_upward(body)

    def _refuse(self, child: Child, pipes: ChildPipes, error: ProtocolError) -> None:
        pipes.backlog.clear()
        self._hang_up(pipes)
        self._on_abuse(child, str(error))

    def _hang_up(self, pipes: ChildPipes) -> None:
        pipes.ended = True
        if not pipes.closed:
            self._loop.forget(pipes.reports)

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
