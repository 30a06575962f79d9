"""When a forkserver that dies is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest

from botctl.runtime import fork_client
from botctl.runtime.fork_client import Fork, ForkClient, ForkserverEnded, Launched, Result
from botctl.runtime.spawn import SpawnReply, SpawnRequest


class Rig:
    """A client with a clock of its own, and forkservers that are played by the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.command = ["sleep", "600"]
        self.starts: list[float] = []
        self.results: list[Result] = []
        self.servers: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        self.client = ForkClient(1, self.spawn, self.results.append)

    def spawn(self) -> tuple[int, socket.socket]:
        self.starts.append(self.now)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        process = subprocess.Popen(self.command)
        self.servers.append((process, theirs))
        return process.pid, ours

    def get_ready(self) -> None:
        self.servers[-1][1].send(msgspec.json.encode(SpawnReply(id=0, pid=1)))
        self.client.readable()

    def die(self) -> None:
        self.servers[-1][1].close()
        self.client.readable()

    def pass_by(self, seconds: float) -> None:
        """Time goes by, and the launcher looks when it is told to."""
        until = self.now + seconds
        while (look := self.client.next_look()) is not None and look <= until:
            self.now = max(self.now, look)
            self.client.look(self.now)
        self.now = until

    def fork(self, token: int) -> None:
        self.client.fork(Fork(token, SpawnRequest(id=token, name="a", entry="a:b", mark="1/1"), ()))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig()
    monkeypatch.setattr(fork_client, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made
    made.client.end()
    for process, channel in made.servers:
        channel.close()
        process.kill()
        process.wait()


def test_one_that_dies_young_is_started_after_a_delay_that_doubles(rig: Rig):
    rig.client.start()
    delays = []
    for _ in range(10):
        rig.get_ready()
        rig.pass_by(1)
        died = rig.now
        rig.die()
        rig.pass_by(60)
        delays.append(round(rig.starts[-1] - died, 3))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert len(rig.starts) == 11


@pytest.mark.parametrize(
    ("command", "sign", "reason"),
    [
        (["sleep", "600"], signal.SIGKILL, "killed by SIGKILL"),
        (["sh", "-c", "exit 3"], None, "ended with exit code 3; `botctl logs forkserver` says why"),
        (["sleep", "600"], None, "hung up"),
    ],
)
def test_how_it_ended_is_told(rig: Rig, command: list[str], sign: signal.Signals | None, reason: str):
    rig.command = command
    rig.client.start()
    rig.get_ready()
    if sign is not None:
        rig.servers[-1][0].send_signal(sign)
    rig.die()
    assert [one.reason for one in rig.results if isinstance(one, ForkserverEnded)] == [reason]


def test_one_that_has_lived_long_is_started_again_at_once_and_forgiven(rig: Rig):
    rig.client.start()
    for _ in range(3):
        rig.get_ready()
        rig.die()
        rig.pass_by(5)
    rig.get_ready()
    rig.pass_by(60)
    rig.die()
    assert rig.starts[-1] == rig.now
    rig.get_ready()
    died = rig.now
    rig.die()
    rig.pass_by(5)
    assert rig.starts[-1] == died + 0.1


def test_a_fork_that_is_asked_for_meanwhile_waits(rig: Rig):
    rig.client.start()
    rig.get_ready()
    for _ in range(5):
        rig.die()
        starts = len(rig.starts)
        rig.fork(starts)
        assert len(rig.starts) == starts, "nobody hurries it"
        rig.pass_by(2)
        assert len(rig.starts) == starts + 1
        rig.get_ready()
        rig.servers[-1][1].send(msgspec.json.encode(SpawnReply(id=starts, pid=7)))
        rig.client.readable()
        assert rig.results[-1] == Launched(starts, 7)


def test_one_that_is_retired_meanwhile_stays_away(rig: Rig):
    rig.client.start()
    rig.get_ready()
    rig.die()
    rig.client.end()
    rig.pass_by(100)
    assert len(rig.starts) == 1


def test_one_without_a_descriptor_that_is_gone_already_ends_nothing_else(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def no_descriptor(pid: int) -> int:
        rig.servers[-1][0].kill()
        rig.servers[-1][0].wait()
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_descriptor)
    rig.client.start()
    assert [type(result).__name__ for result in rig.results] == ["ForkserverDown"]
