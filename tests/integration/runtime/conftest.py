"""Children made by the real launcher and forkserver, without a supervisor: the test is their parent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from botctl.errors import ProtocolError
from botctl.runtime import linux, messages, stacks
from botctl.runtime.launcher import ForkserverUp, Launched, Launcher, Result
from botctl.runtime.pipes import ChildPipes
from botctl.runtime.spawn import SpawnRequest
from integration.runtime.daemons import QUICK, Daemon

HERE = Path(__file__).parent
ENTRY = "hanging_child:main"


class Forked:
    """One child with its pipes, its log and its file for stacks."""

    def __init__(self, pid: int, pipes: ChildPipes, log: int, stacks_file: int) -> None:
        self.pid = pid
        self.pipes = pipes
        self.stacks_file = stacks_file
        self.status: int | None = None
        self._log = log

    def hear(self, timeout: float = 10.0) -> str:
        """The next thing the child tells."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            select.select([self.pipes.reports], [], [], 0.1)
            bodies, ended = self.pipes.read()
            for body in bodies:
                message = messages.decode_upward(body)
                assert isinstance(message, messages.Heartbeat), message
                return message.reason
            if ended:
                break
        raise AssertionError(f"the child says nothing; its log: {self.log()}")

    def say(self, message: messages.Message) -> None:
        self.pipes.send(messages.encode(message))

    def log(self) -> str:
        return os.pread(self._log, 1 << 20, 0).decode()

    def stacks(self) -> str:
        return stacks.read(self.stacks_file)

    def wait_for_stacks(self, *words: str, timeout: float = 10.0) -> str:
        """The stacks, once all the words stand in them."""
        deadline = time.monotonic() + timeout
        while True:
            text = self.stacks()
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            assert time.monotonic() < deadline, f"{missing} not in the stacks:\n{text}\nlog: {self.log()}"
            time.sleep(0.01)

    def wait(self, timeout: float = 10.0) -> int:
        """How it ended, as `os.waitpid` tells."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                break
            assert time.monotonic() < deadline, f"child {self.pid} doesn't end; its log: {self.log()}"
            time.sleep(0.01)
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        with contextlib.suppress(ProtocolError):
            self.pipes.close()
        os.close(self._log)
        os.close(self.stacks_file)


@pytest.fixture(scope="module")
def launcher() -> Iterator[tuple[Launcher, queue.SimpleQueue[Result]]]:
    """A forkserver for the module; it dies with us."""
    linux.adopt_orphans()
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(HERE)
    log, path = tempfile.mkstemp()
    launcher = Launcher(["hanging_child"], lambda: os.dup(log), results.put)
    try:
        launcher.start()
        up = results.get(timeout=60)
        assert isinstance(up, ForkserverUp), f"{up}: {Path(path).read_text()}"
        yield launcher, results
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
        os.close(log)
        os.unlink(path)
        pids = launcher.forkserver_pids
        launcher.stop(5)
        linux._prctl(linux._PR_SET_CHILD_SUBREAPER, 0)
    for pid in pids:
        os.waitpid(pid, 0)


@pytest.fixture
def fork(launcher: tuple[Launcher, queue.SimpleQueue[Result]]) -> Iterator[Callable[..., Forked]]:
    """Forks a child with one habit of `hanging_child`; `request` are fields of `SpawnRequest`."""
    starter, results = launcher
    made: list[Forked] = []

    def start(habit: str, *, with_stacks: bool = True, **request: Any) -> Forked:
        pipes = ChildPipes(max_body=messages.MAX_FRAME)
        log, file = os.memfd_create("log"), stacks.new_file()
        descriptors = (pipes.child_commands, pipes.child_reports, os.dup(log))
        pipes.child_commands = pipes.child_reports = -1
        if with_stacks:
            descriptors += (os.dup(file),)
        token = len(made) + 1
        starter.fork(token, SpawnRequest(id=token, name=habit, entry=ENTRY, mark="1/1", **request), descriptors)
        result = results.get(timeout=30)
        assert isinstance(result, Launched), result
        assert result.pid is not None, result.error
        made.append(Forked(result.pid, pipes, log, file))
        config = msgspec.Raw(json.dumps(habit).encode())
        made[-1].say(messages.Configure(name=habit, incarnation=1, config=config))
        return made[-1]

    yield start
    for child in made:
        child.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons over children with one habit each: `daemon(name="habit", other={"habit": …, "policy": …})`."""
    started: list[Daemon] = []

    def start(*, _limit: int = 0, **fleet: Any) -> Daemon:
        bots = {
            name: {"habit": habit, "policy": QUICK} if isinstance(habit, str) else habit
            for name, habit in fleet.items()
        }
        started.append(Daemon(tmp_path / f"logs{len(started)}", bots, _limit))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(10)
