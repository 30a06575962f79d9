"""What becomes of pipes, files and last lines when incarnations, names and readers come and go."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botctl.runtime import logs
from botctl.runtime.children import Child, Kind
from botctl.runtime.logs import LogKeeper
from botctl.runtime.loop import Loop
from botctl.runtime.starter import Starter
from botctl.supervision.model import Record


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[LogKeeper]:
    made = LogKeeper(tmp_path, redact=lambda _, lines: lines)
    made.start()
    yield made
    made.stop(5)
    assert not made._thread.is_alive()


def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def opened(path: Path) -> int:
    """How many of our descriptors are of this file, or of files below this folder."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(path))
        except FileNotFoundError:
            continue
    return found


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_pipe_that_somebody_inherited_is_closed_when_its_incarnation_has_ended(
    keeper: LogKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "CLOSE_AFTER", 0.1)
    stream, sink = keeper.open("bot")
    try:
        os.write(sink, b"a line\nand half a line")
        keeper.ended(stream)
        until(lambda: not is_open(stream.descriptor))
        with pytest.raises(BrokenPipeError):
            os.write(sink, b"nobody reads")
    finally:
        os.close(sink)
    assert (tmp_path / "bot.log").read_bytes() == b"a line\nand half a line\n"
    assert keeper.tail(stream) == ["a line", "and half a line"]


def test_letting_go_of_an_incarnation_ends_its_pipe_and_leaves_its_last_lines(keeper: LogKeeper):
    child = Child(1, "bot", Kind.BOT, Record(1))
    child.log, sink = keeper.open("bot")
    os.write(sink, b"last words\n")
    Starter(Loop(), None, keeper, None).release(child)  # type: ignore[arg-type]
    assert child.log.over
    assert keeper.tail(child.log) == ["last words"]
    os.close(sink)


def test_a_flooded_pipe_that_has_to_wait_is_closed_once_and_its_number_left_alone(
    keeper: LogKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "BYTES_PER_SECOND", 1)
    monkeypatch.setattr(logs, "CLOSE_AFTER", 0.0)
    monkeypatch.setattr(logs, "PAUSE", 0.5)
    stream, sink = keeper.open("bot")
    os.write(sink, b"x" * 4000 + b"\n")
    until(lambda: len(keeper._paused) == 1)
    keeper.ended(stream)
    until(lambda: not is_open(stream.descriptor))
    # Somebody else gets its number; what is said there is not for the log.
    other, own = os.pipe()
    os.dup2(other, stream.descriptor)
    os.write(own, b"not for the log\n")
    until(lambda: not keeper._paused)
    assert keeper.alive
    assert os.read(stream.descriptor, 100) == b"not for the log\n"
    for descriptor in {sink, other, own, stream.descriptor}:
        os.close(descriptor)


def test_the_last_lines_are_those_of_the_incarnation_whatever_the_names(keeper: LogKeeper):
    first, first_sink = keeper.open("a")
    second, second_sink = keeper.open("b")
    os.write(first_sink, b"said by the first\n")
    os.write(second_sink, b"said by the second\n")
    third, third_sink = keeper.open("a")
    os.write(third_sink, b"said by the third\n")
    assert keeper.tail(first) == ["said by the first"]
    assert keeper.tail(second) == ["said by the second"]
    assert keeper.tail(third) == ["said by the third"]
    for sink in (first_sink, second_sink, third_sink):
        os.close(sink)


def test_files_of_names_that_are_gone_are_closed(keeper: LogKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "IDLE_AFTER", 0.2)
    stays, stays_sink = keeper.open("stays")
    os.write(stays_sink, b"a line\n")
    for number in range(20):
        _, sink = keeper.open(f"bot{number}")
        os.write(sink, b"a line\n")
        os.close(sink)
    keeper.write("daemon", "a line")
    until(lambda: len(list(tmp_path.iterdir())) == 22)
    until(lambda: opened(tmp_path) == 1)
    assert keeper._files.keys() == keeper._allowances.keys() == {"stays"}
    # The same names again, and one that has only paused.
    keeper.write("daemon", "another")
    os.write(stays_sink, b"another\n")
    for name in ("daemon", "stays"):
        until(lambda name=name: (tmp_path / f"{name}.log").read_bytes() == b"a line\nanother\n")
    assert keeper.tail(stays) == ["a line", "another"]
    os.close(stays_sink)


def test_half_a_last_line_is_written_though_another_reader_met_the_end(
    keeper: LogKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stream, sink = keeper.open("bot")
    clean = stream.clean
    sinks = [sink]

    def overtaken(redact: Callable[[bytes], bytes]) -> bytes:
        cleaned = clean(redact)
        while sinks:
            os.close(sinks.pop())
            keeper.tail(stream)
        return cleaned

    monkeypatch.setattr(stream, "clean", overtaken)
    os.write(sink, b"Traceback\nlast words")
    until(lambda: not is_open(stream.descriptor))
    assert (tmp_path / "bot.log").read_bytes() == b"Traceback\nlast words\n"


def test_what_still_stands_in_pipes_is_written_at_the_end(tmp_path: Path):
    keeper = LogKeeper(tmp_path, redact=lambda _, lines: lines)
    keeper.start()
    _, sink = keeper.open("bot")
    os.write(sink, b"half a line")
    keeper.stop(5)
    os.close(sink)
    assert (tmp_path / "bot.log").read_bytes() == b"half a line\n"
    assert opened(tmp_path) == 0


def test_a_dead_thread_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keeper = LogKeeper(tmp_path, redact=lambda _, lines: lines)
    assert keeper.alive
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(keeper, "_write_own_lines", lambda: 1 / 0)
    keeper.start()
    keeper.write("daemon", "a line")
    until(lambda: not keeper.alive)
