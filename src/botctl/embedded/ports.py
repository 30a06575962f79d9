"""A TCP port on 127.0.0.1 for a server of ours, the same at every start as long as nobody else has taken it.

Chosen outside the range the kernel gives to clients: a client that retries on a closed port of that range can end up
connected to itself, and the server could never bind it again.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

from botctl.errors import RefusedError

LOWEST, HIGHEST = 10240, 65535


def kept_port(note: Path) -> int:
    """The port written in `note` if it is free, else a new one, which is written there."""
    with suppress(OSError, ValueError):
        port = int(note.read_text("ascii"))
        if 1024 <= port <= HIGHEST and _is_free(port):
            return port
    first, last = _client_ports()
    candidates = [port for port in range(LOWEST, HIGHEST) if not first <= port <= last]
    for port in random.sample(candidates or range(LOWEST, HIGHEST), 200):
        if _is_free(port):
            note.write_text(f"{port}\n", "ascii")
            return port
    raise RefusedError("found no free port on 127.0.0.1", hint="End what listens there, or use external servers.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except (OSError, OverflowError):
            return False
    return True


def _client_ports() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 32768, 60999
