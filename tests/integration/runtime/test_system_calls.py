"""The filter of system calls in a process of its own: what it refuses, and what it leaves alone when told to."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import multiprocessing.managers
import os
import socket
import tempfile
import traceback
from collections.abc import Callable

import pytest

from botctl.runtime import linux
from botctl.runtime.confinement import syscalls

pytestmark = pytest.mark.skipif(not syscalls.is_known(os.uname().machine), reason="its system calls are not known")

libc = ctypes.CDLL(None, use_errno=True)


def filtered(do: Callable[[], object], **left_alone: bool) -> None:
    """Fails when `do` does, in a fork that has the filter."""
    child = os.fork()
    if child == 0:
        try:
            linux.no_new_privileges()
            syscalls.refuse(**left_alone)
            do()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def listen_on_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as ours:
        ours.bind(f"{folder}/socket")
        ours.listen()


def be_served_by_a_manager() -> None:
    with multiprocessing.managers.SyncManager(ctx=multiprocessing.get_context("fork")) as manager:
        assert manager.list([1, 2])[1] == 2


def watch() -> None:
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if libc.inotify_add_watch(descriptor, b"/", 0x100) < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")


def refused_with(number: int, do: Callable[[], object]) -> Callable[[], None]:
    def check() -> None:
        with pytest.raises(OSError, match=r"Errno") as refused:
            do()
        assert refused.value.errno == number, refused.value

    return check


@pytest.mark.parametrize("do", [listen_on_a_unix_socket, be_served_by_a_manager])
def test_a_bot_listens_where_its_fleet_file_says_so(do: Callable[[], object]) -> None:
    filtered(do, listen=True)


def test_and_nowhere_else() -> None:
    filtered(refused_with(errno.EPERM, listen_on_a_unix_socket))


def test_files_are_watched_where_their_modes_keep_others_out() -> None:
    filtered(watch, watch=True)
    filtered(refused_with(errno.EPERM, watch))


@pytest.mark.parametrize("flags", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_each_kind_of_namespace_is_refused_and_threads_are_not(flags: int) -> None:
    def make() -> None:
        if libc.unshare(flags) != 0:
            raise OSError(ctypes.get_errno(), "unshare")

    filtered(refused_with(errno.EPERM, make))
    filtered(lambda: libc.unshare(0x400) and pytest.fail("CLONE_FILES is nobody else's"))


@pytest.mark.parametrize(
    ("family", "protocol", "number"),
    [
        (socket.AF_VSOCK, 0, errno.EAFNOSUPPORT),
        (socket.AF_PACKET, 0, errno.EAFNOSUPPORT),
        (socket.AF_INET, 262, errno.EPROTONOSUPPORT),
        (socket.AF_INET6, 132, errno.EPROTONOSUPPORT),
    ],
)
def test_sockets_of_other_kinds_are_refused(family: int, protocol: int, number: int) -> None:
    filtered(refused_with(number, lambda: socket.socket(family, socket.SOCK_STREAM, protocol).close()))


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET, socket.AF_INET6])
def test_those_that_bots_connect_with_are_not(family: int) -> None:
    filtered(lambda: socket.socket(family, socket.SOCK_STREAM).close())


def test_a_library_takes_the_new_way_to_start_a_thread_for_absent() -> None:
    def clone3() -> None:
        ctypes.set_errno(0)
        assert libc.syscall(435, bytes(88), 88) == -1
        assert ctypes.get_errno() == errno.ENOSYS

    filtered(clone3)
