"""Whose this machine's TCP connections are: by port the uid that has opened it, as the kernel tells. Only reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def socket_owners(server_port: int) -> dict[int, int]:
    """Uids by local port, of connections to `server_port`. Empty where the kernel doesn't tell."""
    found: dict[int, int] = {}
    for table in _TABLES:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        found |= _owners(lines, server_port)
    return found


def _owners(lines: Iterable[str], server_port: int) -> dict[int, int]:
    """Columns: number, local address, remote address, state, queues, timer, retransmits, uid, …"""
    wanted = f":{server_port:04X}"
    found: dict[int, int] = {}
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[3] == _ESTABLISHED and fields[2].endswith(wanted):
            found[int(fields[1].rpartition(":")[2], 16)] = int(fields[7])
    return found
