"""One daemon a data folder, and clear words when a folder can't be used; with real locks and real file systems."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.mounts import in_mount

from botctl.errors import BotctlError, DataFolderError, ExitCode, RefusedError
from botctl.runtime.folder import DataFolder

HOLDER = """
import sys
from pathlib import Path
from botctl.runtime.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
folder.acquire()
for state in sys.argv[2:]:
    folder.write_note(state=state)
print("held", flush=True)
sys.stdin.read()
folder.release()
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Another process takes the folder and writes notes of these states; it lets go when its input ends."""
    started: list[subprocess.Popen[str]] = []

    def begin(*states: str, folder: Path = tmp_path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", HOLDER, str(folder), *states]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def refusal(folder: Path) -> BotctlError:
    with pytest.raises(BotctlError) as caught:
        DataFolder(folder).acquire()
    return caught.value


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((), "a daemon that is starting or stopping"),
        (("starting",), "a daemon that is starting"),
        (("starting", "serving"), "a running daemon"),
        (("serving", "stopping"), "a daemon that is stopping"),
    ],
)
def test_a_second_daemon_is_refused_whatever_the_first_is_at(
    hold: Callable[..., subprocess.Popen[str]], tmp_path: Path, states: tuple[str, ...], words: str
) -> None:
    first = hold(*states)
    error = refusal(tmp_path)
    assert isinstance(error, DataFolderError)
    assert error.message == f"the data folder {tmp_path} is in use by {words} (pid {first.pid})"
    assert error.hint
    assert (tmp_path / "run/daemon.pid").read_text() == f"{first.pid}\n", "the first one's files stay"


def test_the_refusal_names_the_holder_and_not_what_an_old_note_says(
    hold: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = hold()
    (tmp_path / "run/daemon.json").write_text(json.dumps({"pid": 1, "state": "serving"}))
    error = refusal(tmp_path)
    assert f"pid {first.pid}" in error.message
    assert "starting or stopping" in error.message


def test_a_second_daemon_is_refused_after_run_was_deleted(
    hold: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = hold("serving")
    shutil.rmtree(tmp_path / "run")
    error = refusal(tmp_path)
    assert isinstance(error, DataFolderError)
    assert error.message.endswith(f"in use by a daemon whose notes were deleted (pid {first.pid})")
    assert error.hint == f"`kill -TERM {first.pid}` ends it and its bots."
    first.communicate()
    free = DataFolder(tmp_path)
    free.acquire()
    free.release()


def test_a_second_daemon_is_refused_on_a_folder_that_was_moved(
    hold: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    first = hold("serving", folder=data)
    moved = data.rename(tmp_path / "moved")
    assert f"(pid {first.pid})" in refusal(moved).message


def test_a_file_system_that_locks_no_folders_has_the_file_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def as_nfs(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    first = DataFolder(tmp_path)
    first.acquire()
    assert f"(pid {os.getpid()})" in refusal(tmp_path).message
    first.release()


def test_what_a_killed_daemon_left_is_no_obstacle(hold: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    first = hold("serving")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (tmp_path / "run/boot-error.txt").write_text("old\n")
    assert json.loads((tmp_path / "run/daemon.json").read_text())["pid"] == first.pid
    folder = DataFolder(tmp_path)
    folder.acquire()
    try:
        assert (tmp_path / "run/daemon.pid").read_text() == f"{os.getpid()}\n"
        assert (tmp_path / "run/daemon.lock").read_text() == f"{os.getpid()}\n"
        assert folder.note() == {}
        assert not (tmp_path / "run/boot-error.txt").exists()
    finally:
        folder.release()


def test_a_folder_that_was_let_go_can_be_taken_at_once(
    hold: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = hold("serving")
    first.communicate()
    folder = DataFolder(tmp_path)
    folder.acquire()
    folder.release()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["daemon.lock"]


def test_a_lock_does_not_pass_to_children(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.acquire()
    child = subprocess.Popen(["sleep", "600"])
    try:
        folder.release()
        again = DataFolder(tmp_path)
        again.acquire()
        again.release()
    finally:
        child.kill()
        child.wait()


def daemon(data: Path) -> str:
    """The daemon with a boot document for this folder."""
    document = json.dumps({"data_dir": str(data), "fleet": {"bots": []}, "database_url": "x", "redis_url": "x"})
    return f"printf %s '{document}' | {sys.executable} -P -m botctl.cli.daemon"


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    done = in_mount(tmp_path, f"mount -t tmpfs -o ro none {tmp_path}", daemon(tmp_path / "data"))
    assert done.returncode == ExitCode.REFUSED, done.stderr
    assert done.stderr == (
        f"botctl: error: the data folder {tmp_path}/data can't be used: Read-only file system ({tmp_path}/data)\n"
        "hint: Its file system is mounted read-only; name another with --data-dir or BOTCTL_DATA_DIR.\n"
    )


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    fill = f"mount -t tmpfs -o size=64k none {tmp_path}\nmkdir -p {tmp_path}/data/run\n"
    fill += f"head -c 1M /dev/zero > {tmp_path}/filler 2>/dev/null || true"
    done = in_mount(tmp_path, fill, daemon(tmp_path / "data"))
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert f"the data folder {tmp_path}/data can't be used: No space left on device" in done.stderr
    assert "hint: Make room there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_but_for_the_lock_is_told(tmp_path: Path) -> None:
    """Of the three pages that lock, note and pid take, one after the other finds no room.

    With room for three it is chance whether they have it, or the log.
    """
    for pages in range(1, 3):
        fill = f"mount -t tmpfs -o size=64k none {tmp_path}\n"
        fill += f"head -c 1M /dev/zero > {tmp_path}/filler 2>/dev/null || true\n"
        fill += f"truncate -s -{4096 * pages} {tmp_path}/filler"
        done = in_mount(tmp_path, fill, daemon(tmp_path / "data"))
        assert done.returncode == ExitCode.FAILED, done.stderr
        assert "can't be used: No space left on device" in done.stderr, pages
        assert "Traceback" not in done.stderr, pages


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_somebody_elses_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    error = refusal(tmp_path / "data")
    assert isinstance(error, RefusedError)
    assert "Permission denied" in error.message
