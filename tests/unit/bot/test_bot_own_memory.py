"""What counts as a bot's own memory: each test forks real processes, as the forkserver does."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from botctl.bot.vitals.own_memory import OwnMemory

MB = 1_000_000
INHERITED = 60 * MB


def forked(work: Callable[[OwnMemory], Any]) -> Any:
    """What `work` returns in a fresh child, whose memory is measured from its fork on."""
    with forking(work) as answer:
        return answer()


@contextlib.contextmanager
def forking(work: Callable[[OwnMemory], Any]) -> Iterator[Callable[[], Any]]:
    """The same, for those who have something to do meanwhile."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            memory = OwnMemory()
            memory.begin()
            os.write(write, json.dumps(work(memory)).encode())
        except BaseException as error:
            os.write(write, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        with open(read, "rb") as said:
            yield lambda: json.loads(said.read())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def touched(size: int) -> mmap.mmap:
    """Memory that is there, every page of it; given back when it is closed."""
    held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(held)
    return held


def touch(held: mmap.mmap) -> None:
    for at in range(0, len(held), mmap.PAGESIZE):
        held[at] = 1


@pytest.fixture
def inherited():
    held = touched(INHERITED)
    yield held
    held.close()


def test_what_it_inherits_and_writes_to_is_not_its_own(inherited: mmap.mmap) -> None:
    def work(memory: OwnMemory) -> list[dict[str, float]]:
        before = memory.gauges()
        touch(inherited)
        return [before, memory.gauges()]

    before, after = forked(work)
    assert after["pss_mb"] > before["pss_mb"] + 20, "the kernel gives it all that it has written to"
    assert before["own_mb"] < 5
    assert after["own_mb"] < 5


def test_what_it_makes_is_its_own_until_it_is_given_back(inherited: mmap.mmap) -> None:
    def work(memory: OwnMemory) -> list[float]:
        held = touched(40 * MB)
        most = memory.gauges()["own_mb"]
        held.close()
        return [most, memory.gauges()["own_mb"]]

    most, least = forked(work)
    assert 40 <= most < 45
    assert least < 5


def test_memory_that_it_shares_with_its_own_children_is_its_own_as_well() -> None:
    def work(memory: OwnMemory) -> float:
        held = mmap.mmap(-1, 40 * MB)  # shared, as multiprocessing's
        touch(held)
        return memory.gauges()["own_mb"]

    assert 40 <= forked(work) < 45


def test_however_many_of_its_children_use_it_too() -> None:
    def work(memory: OwnMemory) -> float:
        held = mmap.mmap(-1, 40 * MB)
        touch(held)
        begun, begin = os.pipe()
        children = []
        for _ in range(3):
            if (child := os.fork()) == 0:
                touch(held)
                os.write(begin, b"!")
                signal.pause()
            children.append(child)
        try:
            for _ in children:
                os.read(begun, 1)
            return memory.gauges()["own_mb"]
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

    assert 39 < forked(work) < 45


def test_what_it_shared_with_those_who_have_ended_is_not_its_own(inherited: mmap.mmap) -> None:
    """The kernel counts it as the last one's alone: so it was after the forkserver's death."""
    begun, begin = os.pipe()
    closed, close = os.pipe()

    def work(memory: OwnMemory) -> list[dict[str, float]]:
        before = memory.gauges()
        os.write(begin, b"!")
        os.read(closed, 1)
        return [before, memory.gauges()]

    with forking(work) as answer:
        os.read(begun, 1)
        inherited.close()
        os.write(close, b"!")
        before, after = answer()
    for end in (begun, begin, closed, close):
        os.close(end)
    assert after["pss_mb"] > before["pss_mb"] + 20
    assert after["own_mb"] < 5


def test_out_of_descriptors_it_still_knows() -> None:
    def work(memory: OwnMemory) -> list[float]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        before = memory.gauges()["own_mb"]
        held = touched(40 * MB)
        return [before, memory.gauges()["own_mb"], len(held)]

    before, after, _ = forked(work)
    assert 40 <= after - before < 45


def test_what_is_known_last_stays_when_its_descriptor_is_somebody_elses() -> None:
    def work(memory: OwnMemory) -> list[Any]:
        known = memory.gauges()
        os.dup2(os.open("/dev/zero", os.O_RDONLY), memory._descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        return [known, memory.gauges()]

    known, still = forked(work)
    assert still == known != {}


def test_a_descriptor_that_was_closed_is_opened_anew() -> None:
    def work(memory: OwnMemory) -> list[float]:
        os.close(memory._descriptor)
        held = touched(40 * MB)
        return [memory.gauges()["own_mb"], len(held)]

    assert 40 <= forked(work)[0] < 45


def test_nothing_is_told_where_the_kernel_tells_nothing() -> None:
    memory = OwnMemory()
    memory._open = lambda: None  # type: ignore[method-assign]
    assert memory.gauges() == {}


def test_the_hard_limit_is_measured_from_the_fork_as_well(inherited: mmap.mmap) -> None:
    def work(memory: OwnMemory) -> list[int]:
        resource.setrlimit(resource.RLIMIT_DATA, (memory._data + 100 * MB,) * 2)
        held = touched(40 * MB)
        return [memory.data(), memory.data_limit(), len(held)]

    data, limit, _ = forked(work)
    assert 40 * MB <= data < 45 * MB
    assert limit == 100 * MB
    assert OwnMemory().data_limit() == 0
