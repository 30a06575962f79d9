"""A forkserver that has run out of what a fork takes."""

from __future__ import annotations

import os
import resource

import pytest

from botctl.runtime.fork_client import ForkserverEnded, ForkserverUp, Launched
from botctl.runtime.pipes import ChildPipes
from botctl.runtime.spawn import SpawnRequest
from integration.runtime.daemons import gone, wait_until


def ask(launcher, token: int) -> ChildPipes:
    """For a child; its descriptors are the launcher's afterwards."""
    pipes = ChildPipes(max_body=1000)
    descriptors = (pipes.child_commands, pipes.child_reports, os.memfd_create("log"), os.memfd_create("stacks"))
    pipes.child_commands = pipes.child_reports = -1
    request = SpawnRequest(id=token, name="one", entry="hanging_child:main", mark="1/1")
    launcher.fork(token, request, descriptors)
    return pipes


@pytest.mark.parametrize("spare", [1, 4, 6], ids=["the child's own", "the first pipe", "the second pipe"])
def test_one_without_descriptors_is_replaced_by_one_that_forks(launcher, spare: int):
    """For want of descriptors it can't take the child's own, or can't make the pipes that a fork takes."""
    starter, results = launcher
    (pid,) = starter.forkserver_pids
    used = len(os.listdir(f"/proc/{pid}/fd"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, hard))
    pipes = ask(starter, 1)
    ended, failed, up = (results.get(timeout=30) for _ in range(3))
    pipes.close()
    assert (type(ended), ended.pid) == (ForkserverEnded, pid)
    assert failed == Launched(1, None, "forkserver: ended with exit code 1; `botctl logs forkserver` says why")
    assert isinstance(up, ForkserverUp)
    wait_until(lambda: gone(pid))
    os.waitpid(pid, 0)

    pipes = ask(starter, 2)
    launched = results.get(timeout=30)
    assert isinstance(launched, Launched)
    assert launched.pid is not None, launched.error
    pipes.close()  # it ends when nobody has anything to say to it
    os.waitpid(launched.pid, 0)
