"""Attacks over sockets: the control socket, abstract ones, ports."""

from __future__ import annotations

import os
import socket

from attack.cases import attack
from attack.os.terrain import AREA, OPEN, Ground, any_of


@attack(
    "connect to the control socket",
    area=AREA,
    landlock=f"{OPEN}; without the token every request is refused",
    none=f"{OPEN}; and the token can be read",
)
def control_socket(ground: Ground) -> str:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(5)
        ours.connect(ground.socket)
    return "connected"


@attack("take the control socket's place", area=AREA, none=OPEN)
def replace_socket(ground: Ground) -> str:
    os.unlink(ground.socket)
    return "removed"


@attack("connect to another process's abstract socket", area=AREA, none=OPEN)
def abstract_socket(ground: Ground) -> str:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(5)
        ours.connect("\0" + ground.abstract)
    return "connected"


@attack("listen on a TCP port that the kernel chooses, without bind", area=AREA, none=OPEN)
def listen(_: Ground) -> str:
    with socket.socket() as ours:
        ours.listen(5)
        return str(ours.getsockname())


@attack("listen by other protocols than TCP (MPTCP, vsock)", area=AREA, none=OPEN)
def listen_otherwise(_: Ground) -> str:
    def multipath() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as ours:
            ours.bind(("127.0.0.1", 0))
            return str(ours.getsockname())

    def virtual() -> str:
        with socket.socket(socket.AF_VSOCK) as ours:
            ours.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
            return str(ours.getsockname())

    return any_of([multipath, virtual])


@attack("listen on a TCP port", area=AREA, none=OPEN)
def bind(_: Ground) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname())
