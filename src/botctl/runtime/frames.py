"""Frames on a pipe: four bytes of length, big-endian, then the body. Pure; reads and writes nothing itself."""

from __future__ import annotations

import struct

from botctl.errors import ProtocolError

HEADER = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """A body with its header."""
    return HEADER.pack(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into bodies. Holds at most one frame and one read of bytes."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies completed by `data`. Raises ProtocolError on a header that announces too much."""
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer, start)
            if length > self._max_body:
                raise ProtocolError(f"frame of {length} bytes announced, {self._max_body} allowed")
            end = start + HEADER.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + HEADER.size : end]))
            start = end
        if start:
            del self._buffer[:start]
        return bodies
