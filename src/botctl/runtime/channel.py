"""A child's end of its pipes: commands come in, reports go out.

`send` never blocks the event loop: what the pipe does not take is dropped if it is a heartbeat, kept otherwise.
"""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import suppress

from botctl.errors import BotctlError
from botctl.runtime import messages
from botctl.runtime.frames import FrameReader, frame


class ChannelClosedError(BotctlError):
    """The supervisor is gone; there is nothing left to work for."""


class Channel:
    """Used by one child: `configure` is there from the beginning, the rest comes with `receive`."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._reports = reports
        self._reader = FrameReader(messages.MAX_CONTROL_FRAME)
        self._waiting: list[messages.Downward] = []
        self._unsent = bytearray()
        os.set_blocking(reports, False)
        os.set_blocking(commands, True)
        while not self._waiting:
            self._take(os.read(commands, 1 << 16))
        first = self._waiting.pop(0)
        if not isinstance(first, messages.Configure):
            raise ChannelClosedError(f"expected Configure, got {type(first).__name__}")
        self.configure: messages.Configure = first
        os.set_blocking(commands, False)

    def send(self, message: messages.Message) -> None:
        """Report to the supervisor. Raises ChannelClosedError when it is gone."""
        if self._unsent and isinstance(message, messages.Heartbeat):
            return
        self._unsent += frame(messages.encode(message))
        self._write()

    def flush(self, timeout: float = 1.0) -> None:
        """Write what waits, blocking for at most `timeout` seconds at a time; for last words."""
        while self._unsent:
            _, writable, _ = select.select([], [self._reports], [], timeout)
            if not writable:
                return
            try:
                self._write_some()
            except ChannelClosedError:
                return

    async def receive(self) -> messages.Downward:
        """The next message from the supervisor. Raises ChannelClosedError when it is gone."""
        loop = asyncio.get_running_loop()
        while not self._waiting:
            readable = asyncio.Event()
            loop.add_reader(self._commands, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._commands)
            try:
                self._take(os.read(self._commands, 1 << 16))
            except BlockingIOError:
                continue
        return self._waiting.pop(0)

    def _write(self) -> None:
        while self._unsent:
            if not self._write_some():
                with suppress(RuntimeError):  # no loop runs yet: the next send or flush goes on
                    asyncio.get_running_loop().add_writer(self._reports, self._go_on)
                return

    def _go_on(self) -> None:
        asyncio.get_running_loop().remove_writer(self._reports)
        with suppress(ChannelClosedError):  # whoever receives is told
            self._write()

    def _write_some(self) -> bool:
        try:
            written = os.write(self._reports, bytes(self._unsent[: 1 << 16]))
        except BlockingIOError:
            return False
        except BrokenPipeError as error:
            raise ChannelClosedError("the supervisor is gone") from error
        del self._unsent[:written]
        return True

    def _take(self, data: bytes) -> None:
        if not data:
            raise ChannelClosedError("the supervisor is gone")
        self._waiting += [messages.decode_downward(body) for body in self._reader.feed(data)]
