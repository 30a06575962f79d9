"""A forkserver whose forks fail."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from botctl.runtime import forkserver
from botctl.runtime.spawn import SpawnRequest

REQUEST = SpawnRequest(id=1, name="one", entry="a:b", mark="1/1")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("failing", ["the first fork", "the second pipe", "the second fork"])
def test_a_fork_that_fails_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch, failing: str):
    fork, pipe, own = os.fork, os.pipe, os.getpid()
    pipes = 0

    def no_fork() -> int:
        if failing == "the first fork" or os.getpid() != own:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def no_pipe() -> tuple[int, int]:
        nonlocal pipes
        pipes += 1
        if failing == "the second pipe" and pipes % 2 == 0:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return pipe()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = descriptors()
        monkeypatch.setattr(os, "fork", no_fork)
        monkeypatch.setattr(os, "pipe", no_pipe)
        for _ in range(5):
            with pytest.raises(OSError, match=r"unavailable|memory"):
                forkserver._fork_twice(REQUEST, [], os.getpid(), ours)
        assert descriptors() == before
