"""Which account may reach what, and which port a server gets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from botctl.embedded.accounts import Account, check_reachable, first_obstacle
from botctl.embedded.ports import kept_port
from botctl.errors import DataFolderError

SOMEBODY = Account(65534, 65534)


def test_a_closed_folder_on_the_way_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    for folder in (*reversed(tmp_path.parents), tmp_path):
        if folder.stat().st_mode & 0o1 == 0:  # pytest's own folders may be closed already; the outermost counts
            closed = folder
            break
    else:
        closed.chmod(0o700)
    assert first_obstacle(inside, SOMEBODY) == closed
    with pytest.raises(DataFolderError, match=str(closed)) as caught:
        check_reachable(inside, SOMEBODY)
    assert "--data-dir" in str(caught.value.hint)


def test_nothing_is_in_the_way_of_the_caller(tmp_path: Path) -> None:
    assert first_obstacle(tmp_path, Account(None, None)) is None


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    note = tmp_path / "port"
    port = kept_port(note)
    assert kept_port(note) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other = kept_port(note)
        assert other != port
    assert kept_port(note) == other


def test_a_port_is_not_one_that_the_kernel_gives_to_clients(tmp_path: Path) -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    port = kept_port(tmp_path / "port")
    assert port >= 1024
    assert not first <= port <= last or (first, last) == (1024, 65535)


def test_a_spoilt_note_is_replaced(tmp_path: Path) -> None:
    note = tmp_path / "port"
    for content in ("", "http", "99999999", "-1", "0"):
        note.write_text(content)
        assert 1024 <= kept_port(note) <= 65535
