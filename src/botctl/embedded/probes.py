"""Whether a server answers yet, asked over a plain socket: the daemon loads no client library. Changes nothing."""

from __future__ import annotations

import socket
import struct
from urllib.parse import unquote, urlsplit

TIMEOUT = 2.0
"""Seconds to wait for a connection and for its answer."""

_PROTOCOL_3 = 196608


def ping_postgres(url: str) -> bool:
    """Whether the server at `url` would take a login now: false while it starts, recovers or stops."""
    parts = urlsplit(url)
    user = unquote(parts.username or "postgres").encode()
    database = unquote(parts.path.removeprefix("/") or "postgres").encode()
    body = struct.pack("!i", _PROTOCOL_3) + b"user\0" + user + b"\0database\0" + database + b"\0\0"
    answer = _ask(parts.hostname or "127.0.0.1", parts.port or 5432, struct.pack("!i", len(body) + 4) + body, 64)
    # R: it asks who we are. E: it refuses, which only for 57P03 (cannot_connect_now) means not yet.
    return answer[:1] == b"R" or (answer[:1] == b"E" and b"C57P03\0" not in answer)


def ping_valkey(url: str) -> bool:
    """Whether the server at `url` has loaded its data and answers PING."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or "default").encode(), unquote(parts.password or "").encode()
    request = _command(b"AUTH", user or b"default", password) if password else b""
    answer = _ask(parts.hostname or "127.0.0.1", parts.port or 6379, request + _command(b"PING"), 64, until=b"PONG\r\n")
    return b"+PONG\r\n" in answer


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _ask(host: str, port: int, request: bytes, size: int, until: bytes = b"") -> bytes:
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.sendall(request)
            while chunk := connection.recv(size):
                answer += chunk
                if not until or until in answer or b"\r\n-" in answer or answer.startswith(b"-") or len(answer) > 4096:
                    break
    except OSError:
        return b""
    return answer
