"""A Redis connection in raw bytes: what a client library would refuse to send, this sends."""

from __future__ import annotations

import socket
from typing import Any

Word = str | bytes | int


class Refusal(str):
    """An error that the server answered; its first word is the kind."""


class Raw:
    """One connection over RESP2. Logs in if there is a user."""

    def __init__(self, port: int, user: str = "", password: str = "", *, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._file = self.socket.makefile("rb")
        if user:
            reply = self.call("AUTH", user, password)
            assert reply == b"OK", reply

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def call(self, *words: Word) -> Any:
        """A command's answer; an error is returned as a Refusal. Raises OSError or EOFError when it is thrown out."""
        self.send(packed(*words))
        return self.read()

    def read(self) -> Any:
        """One answer."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"-":
                return Refusal(rest.decode("utf-8", "replace"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
            case b"*":
                return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return rest

    def close(self) -> None:
        """End it without a word."""
        self._file.close()
        self.socket.close()


def packed(*words: Word) -> bytes:
    """A command as it goes over the wire."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
