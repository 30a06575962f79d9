"""Whose this machine's TCP connections are, and how many: by the uid that has opened them, as the kernel tells.

Only reads. A connection is there from its beginning, before anybody has logged in on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


Place = tuple[str, int]
"""IPv4 address and port that a connection comes from, as the server sees them."""


def socket_owners(server_port: int) -> dict[Place, int]:
    """Uids by where the connections to `server_port` come from. Empty where the kernel doesn't tell.

    By the address too: 127.0.0.2 may have the port that another bot has at 127.0.0.1.
    """
    return dict(_all(server_port))


def socket_counts(server_port: int) -> Counter[int]:
    """How many connections to `server_port` there are, by uid. Addresses of this machine may share a local port."""
    return Counter(uid for _, uid in _all(server_port))


def _all(server_port: int) -> Iterator[tuple[Place, int]]:
    for table in _TABLES:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        yield from _owners(lines, server_port)


def _owners(lines: Iterable[str], server_port: int) -> Iterator[tuple[Place, int]]:
    """Whence, and uid. Columns: number, local address, remote address, state, queues, timer, retransmits, uid, …"""
    wanted = f":{server_port:04X}"
    for line in lines:
        if wanted not in line:
            continue  # most lines; splitting them is what costs
        fields = line.split()
        if len(fields) > 7 and fields[3] == _ESTABLISHED and fields[2].endswith(wanted):
            address, _, port = fields[1].rpartition(":")
            yield (_ipv4(address), int(port, 16)), int(fields[7])


def _ipv4(address: str) -> str:
    """The last four bytes, the machine's way round: all of an IPv4 address, and those of one within an IPv6 address."""
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address[-8:])))
