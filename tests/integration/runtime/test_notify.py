"""What systemd is told, over real datagram sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from botctl.runtime.notify import LONGEST_EXTENSION, RELOAD_DEADLINE, Notifier


class Listener:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """All messages since the last look, as lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536).decode().split("\n"))
            except BlockingIOError:
                return found


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.socket.close()


def notifier(listener: Listener, clock: Clock | None = None, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": listener.socket.getsockname(), **more}, clock or Clock())


def test_a_whole_life_is_told_in_order(systemd: Listener) -> None:
    clock = Clock()
    told = notifier(systemd, clock)
    told.starting("starting the embedded PostgreSQL", silent_for=120.0)
    assert systemd.heard() == [["EXTEND_TIMEOUT_USEC=180000000", "STATUS=starting the embedded PostgreSQL"]]
    told.ready()
    told.ready()
    assert systemd.heard() == [["READY=1", "STATUS=serving"]], "once"
    for _ in range(30):
        clock.now += 1
        told.pulse("2 bots: 2 running")
    told.pulse("2 bots: 1 running, 1 quarantined")
    assert systemd.heard() == [["STATUS=2 bots: 2 running"], ["STATUS=2 bots: 1 running, 1 quarantined"]]
    told.reloading()
    ((first, second),) = systemd.heard()
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0
    told.reloaded()
    told.reloaded()
    assert systemd.heard() == [["READY=1"]]
    told.stopping()
    told.stopping()
    assert systemd.heard() == [["STOPPING=1", "STATUS=stopping"]]
    told.reloading()
    told.ready()
    told.starting("too late")
    assert systemd.heard() == []


def test_a_reload_whose_end_nobody_tells_ends_by_itself(systemd: Listener) -> None:
    clock = Clock()
    told = notifier(systemd, clock)
    told.ready()
    told.reloading()
    systemd.heard()
    clock.now += RELOAD_DEADLINE - 0.1
    told.pulse()
    assert systemd.heard() == []
    clock.now += 0.2
    told.pulse()
    told.pulse()
    assert systemd.heard() == [["READY=1"]]


def test_nothing_is_reloaded_before_the_daemon_is_ready(systemd: Listener) -> None:
    told = notifier(systemd)
    told.reloading()
    told.reloaded()
    assert systemd.heard() == []


def test_a_long_start_asks_for_time_every_ten_seconds_and_not_for_ever(systemd: Listener) -> None:
    clock = Clock()
    told = notifier(systemd, clock)
    for _ in range(31):
        told.pulse()
        clock.now += 1
    assert systemd.heard() == [["EXTEND_TIMEOUT_USEC=60000000"]] * 4
    clock.now += LONGEST_EXTENSION
    told.pulse()
    assert systemd.heard() == []
    told.stopping()
    systemd.heard()
    told.pulse()
    assert systemd.heard() == [["EXTEND_TIMEOUT_USEC=60000000"]], "a stop has its own time"


def test_the_watchdog_hears_at_half_its_interval(systemd: Listener) -> None:
    clock = Clock()
    told = notifier(systemd, clock, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))
    told.ready()
    systemd.heard()
    beats = []
    for second in range(46):
        told.pulse()
        beats += [second for lines in systemd.heard() if lines == ["WATCHDOG=1"]]
        clock.now += 1
    assert beats == [0, 15, 30, 45]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""},
    ],
)
def test_a_watchdog_that_is_not_for_us_hears_nothing(systemd: Listener, asked: dict[str, str]) -> None:
    told = notifier(systemd, **asked)
    told.ready()
    systemd.heard()
    told.pulse()
    assert systemd.heard() == []


def test_a_watchdog_without_a_pid_is_for_whoever_was_started(systemd: Listener) -> None:
    told = notifier(systemd, WATCHDOG_USEC="2000000")
    told.ready()
    systemd.heard()
    told.pulse()
    assert systemd.heard() == [["WATCHDOG=1"]]


def test_an_abstract_socket_is_reached() -> None:
    name = f"botctl-test-{secrets.token_hex(8)}"
    listener = Listener(f"\0{name}")
    try:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.heard() == [["READY=1", "STATUS=serving"]]
    finally:
        listener.socket.close()


@pytest.mark.parametrize("address", ["", "@", "vsock:2:1234", "relative/path", "/no/such/socket"])
def test_what_is_no_socket_of_this_machine_troubles_nobody(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Notifier({"NOTIFY_SOCKET": address})
    if not address.startswith("/"):
        monkeypatch.setattr(socket, "socket", None)
    told.ready()
    told.pulse("no bots")


def test_a_full_queue_delays_what_counts_and_blocks_nobody(systemd: Listener) -> None:
    clock = Clock()
    told = notifier(systemd, clock, WATCHDOG_USEC="2000000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"flood", systemd.socket.getsockname())
    told.ready()
    told.reloading()
    told.reloaded()
    for _ in range(100):
        clock.now += 1
        told.pulse(f"{clock.now}")
    assert all(lines == ["flood"] for lines in systemd.heard())
    told.pulse("2 bots: 2 running")
    told.pulse("2 bots: 2 running")
    heard = systemd.heard()
    assert [lines[0] for lines in heard[:3]] == ["READY=1", "RELOADING=1", "READY=1"]
    assert sorted(heard[3:]) == [["STATUS=2 bots: 2 running"], ["WATCHDOG=1"]]


def test_children_do_not_inherit_what_systemd_asked() -> None:
    env = {"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    Notifier(env)
    assert env == {"PATH": "/bin"}
