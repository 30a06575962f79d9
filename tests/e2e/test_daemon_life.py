"""The daemon as systemd and as a container see it: what it tells, whom it reaps, how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from support.stack import BOTCTL, Stack, descendants, eventually, process_gone, token

pytestmark = pytest.mark.e2e

ONE, TWO = 7400000001, 7400000002


class Foreground:
    """`botctl start` as a service manager runs it, and what it says."""

    def __init__(self, stack: Stack, words: IO[bytes], before: list[str], *flags: str, **variables: str) -> None:
        self._words = words
        self.process = subprocess.Popen(
            [*before, *BOTCTL, "start", "--fleet", str(stack.fleet_file), *flags],
            env={**stack.environment, **variables},
            stdout=words,
            stderr=words,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def said(self) -> str:
        """Everything so far."""
        return os.pread(self._words.fileno(), 1 << 20, 0).decode()

    async def ended(self, timeout: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        await eventually(lambda: self.process.poll() is not None, f"it ends; it said:\n{self.said()}", timeout)
        return self.process.returncode


@pytest.fixture
def start(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Foreground]]:
    """Start a daemon in the foreground; whatever is left of it is ended with the test."""
    started: list[Foreground] = []
    with (tmp_path / "words").open("w+b") as words:

        def begin(*flags: str, before: list[str] | None = None, **variables: str) -> Foreground:
            started.append(Foreground(stack, words, before or [], *flags, **variables))
            return started[-1]

        yield begin
        for one in started:
            for pid in (*descendants(one.process.pid), one.process.pid) if one.process.poll() is None else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            one.process.wait()


def fleet_of_two(stack: Stack, **more: Any) -> None:
    stack.write_fleet({"name": "one", "token": token(ONE)}, {"name": "two", "token": token(TWO), **more})


class Systemd:
    """The end of a notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.beats: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """All lines so far, without the watchdog's."""
        with contextlib.suppress(BlockingIOError):
            while True:
                found = self._socket.recv(65536).decode().split("\n")
                self.beats += [time.monotonic()] * found.count("WATCHDOG=1")
                self.lines += [line for line in found if line != "WATCHDOG=1"]
        return self.lines

    def close(self) -> None:
        """Close it."""
        self._socket.close()


async def test_systemd_is_told_the_whole_life(stack: Stack, start: Callable[..., Foreground], tmp_path: Path) -> None:
    (stack.folder / "asleep.py").write_text(
        "import subprocess\ndef register(app, bot):\n    subprocess.Popen(['sleep', '9753.1'])\n"
    )
    fleet_of_two(stack, handlers="asleep:register")
    systemd = Systemd(tmp_path / "notify")
    try:
        daemon = start(NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="1000000")
        await eventually(lambda: "STATUS=2 bots: 2 running" in systemd.listen(), "both bots run")
        lines = systemd.lines
        assert lines[0].startswith("EXTEND_TIMEOUT_USEC=")
        assert "STATUS=starting the embedded PostgreSQL" in lines[: lines.index("READY=1")]
        assert lines.count("READY=1") == 1
        assert not [line for line in lines[lines.index("READY=1") :] if line.startswith("EXTEND")]

        (asleep,) = (pid for pid, command in sleeps(daemon.process.pid).items() if "9753.1" in command)
        inherited = Path(f"/proc/{asleep}/environ").read_bytes()
        assert b"BOTCTL_RUN" in inherited, "what a bot's own subprocess sees"
        assert b"NOTIFY_SOCKET" not in inherited
        assert b"WATCHDOG_" not in inherited

        systemd.beats.clear()
        await eventually(lambda: systemd.listen() and len(systemd.beats) >= 4, "the watchdog's beats")
        assert systemd.beats[-1] - systemd.beats[0] < 15.0, "about once a second"

        fleet_of_two(stack, handlers="asleep:register", enabled=False)
        os.kill(daemon.process.pid, signal.SIGHUP)
        await eventually(lambda: systemd.listen().count("READY=1") == 2, "the reload is over", 8.0)
        begun = lines.index("RELOADING=1")
        assert lines[begun + 1].startswith("MONOTONIC_USEC=")
        assert lines.index("READY=1", begun) > begun
        await eventually(lambda: any("1 stopped" in line for line in systemd.listen()), "the status follows")

        os.kill(daemon.process.pid, signal.SIGTERM)
        assert await daemon.ended() == 0
        assert systemd.listen().count("STOPPING=1") == 1
        assert "READY=1" not in lines[lines.index("STOPPING=1") :]
    finally:
        systemd.close()


async def test_a_daemon_told_to_fails_with_its_fleet(stack: Stack, start: Callable[..., Foreground]) -> None:
    fleet_of_two(stack)
    async with stack.sandbox() as telegram:
        for bot in (ONE, TWO):
            await telegram.inject_fault("*", bot_id=bot, status=401, description="Unauthorized", times=None)
    daemon = start("--fail-with-fleet")
    assert await daemon.ended() == 1
    for place in (daemon.said(), (stack.data / "run/boot-error.txt").read_text()):
        assert "every wanted bot is quarantined\n" in place
        assert "one: " in place
        assert "two: " in place
        assert "Unauthorized" in place
    assert "fleet failed" in (stack.data / "logs/daemon.log").read_text()
    assert stack.cli("status", check=False).returncode == 3


async def test_a_daemon_that_was_not_told_to_fail_waits_for_release(
    stack: Stack, start: Callable[..., Foreground]
) -> None:
    fleet_of_two(stack)
    async with stack.sandbox() as telegram:
        await telegram.inject_fault("*", status=401, description="Unauthorized", times=None)
    daemon = start()
    await eventually(lambda: (stack.data / "run/api.sock").exists(), "it serves")
    for name in ("one", "two"):
        await eventually(lambda name=name: stack.bot(name)["state"] == "quarantined", "quarantined")
    since = stack.status()["daemon"]["uptime_s"]
    await eventually(lambda: stack.status()["daemon"]["uptime_s"] > since + 3.0, "it stays for three more pulses")
    assert daemon.process.poll() is None


async def test_a_daemon_told_to_fail_stays_while_one_bot_works(stack: Stack, start: Callable[..., Foreground]) -> None:
    fleet_of_two(stack)
    async with stack.sandbox() as telegram:
        await telegram.inject_fault("*", bot_id=ONE, status=401, description="Unauthorized", times=None)
        daemon = start(BOTCTL_FAIL_WITH_FLEET="true")
        await eventually(lambda: (stack.data / "run/api.sock").exists(), "it serves")
        await eventually(lambda: stack.bot("one")["state"] == "quarantined", "one is quarantined")
        await stack.until_running("two")
        assert daemon.process.poll() is None
        await telegram.inject_fault("*", bot_id=TWO, status=401, description="Unauthorized", times=None)
        assert await daemon.ended() == 1, "until the other one goes as well"


def namespace() -> list[str]:
    """The command that makes a daemon PID 1 of a namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("nsenter") is None:
        pytest.skip("there is no unshare(1) or nsenter(1)")
    command = [unshare, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine doesn't allow a PID namespace (it needs root)")
    return command


def zombies(pid: int) -> list[int]:
    return [child for child in descendants(pid) if process_gone(child)]


class TestAsPid1:
    """A data folder that `Stack.end` doesn't know: the pid in its files is 1, and must not be taken for ours."""

    @pytest.fixture
    def inside(self, stack: Stack) -> dict[str, str]:
        return {"BOTCTL_DATA_DIR": str(stack.folder / "inside")}

    async def until_serving(self, stack: Stack, daemon: Foreground) -> int:
        """Its pid as seen from here."""
        await eventually(lambda: "serving" in daemon.said() or daemon.process.poll() is not None, "it serves")
        assert daemon.process.poll() is None, daemon.said()
        assert (stack.folder / "inside/run/daemon.pid").read_text() == "1\n"
        (pid,) = (int(child) for child in Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
                  .read_text().split())  # fmt: skip
        return pid

    @pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGQUIT])
    async def test_it_reaps_strangers_and_ends_when_told(
        self, stack: Stack, start: Callable[..., Foreground], inside: dict[str, str], sign: signal.Signals
    ) -> None:
        command = namespace()
        fleet_of_two(stack)
        daemon = start(before=command, **inside)
        pid = await self.until_serving(stack, daemon)
        enter = ["nsenter", "--target", str(pid), "--pid", "--mount"]

        def listing() -> str:
            return subprocess.run([*enter, "ps", "-e", "-o", "args"], capture_output=True, text=True, check=True).stdout

        await eventually(lambda: "botctl: bot one" in listing(), "the fleet is inside")

        # As `docker exec` does: processes that nobody inside has started lose their parent to PID 1.
        mark = "31.4159"
        orphan = f"for i in $(seq 50); do (sleep 0.1; sleep 0.1) & done; setsid sleep {mark} & exit 0"
        subprocess.run([*enter, "sh", "-c", orphan], check=True, timeout=30)
        (left,) = await eventually(
            lambda: [child for child, command in sleeps(pid).items() if mark in command], "adopted, and left alone"
        )
        await eventually(lambda: not zombies(pid) and list(sleeps(pid)) == [left], "all others reaped", 10.0)
        os.kill(left, signal.SIGKILL)
        await eventually(lambda: process_is_no_more(left), "and this one", 5.0)

        os.kill(pid, sign)
        assert await daemon.ended() == 0
        assert "Traceback" not in daemon.said()

    async def test_it_ends_with_1_when_told_to_fail_with_its_fleet(
        self, stack: Stack, start: Callable[..., Foreground], inside: dict[str, str]
    ) -> None:
        command = namespace()
        fleet_of_two(stack)
        async with stack.sandbox() as telegram:
            await telegram.inject_fault("*", status=401, description="Unauthorized", times=None)
        daemon = start("--fail-with-fleet", before=command, **inside)
        assert await daemon.ended() == 1
        assert "every wanted bot is quarantined" in daemon.said()

    async def test_a_killed_container_starts_again_on_its_folder_and_a_second_one_is_refused(
        self, stack: Stack, start: Callable[..., Foreground], inside: dict[str, str]
    ) -> None:
        command = namespace()
        fleet_of_two(stack)
        first = start(before=command, **inside)
        pid = await self.until_serving(stack, first)
        second = subprocess.run(
            [*command, *BOTCTL, "start", "--fleet", str(stack.fleet_file)],
            env={**stack.environment, **inside}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert "is in use by a running daemon (pid 1)" in second.stderr
        os.kill(pid, signal.SIGKILL)
        await first.ended()
        again = start(before=command, **inside)
        await eventually(lambda: again.said().count("serving") == 2 or again.process.poll() is not None, "it serves")
        assert again.process.poll() is None, again.said()


def sleeps(pid: int) -> dict[int, str]:
    """Living sleep(1)s below, with their command lines."""
    found = {}
    for child in descendants(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = Path(f"/proc/{child}/cmdline").read_text()
            if command.startswith("sleep\0"):
                found[child] = command
    return found


def process_is_no_more(pid: int) -> bool:
    """Reaped: not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()
