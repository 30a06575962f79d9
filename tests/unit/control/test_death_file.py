"""Reading the file of deaths: garbage, half lines, rotation, bounds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from botctl.control.fleet.death_file import death_files, read_deaths
from botctl.runtime.messages import Lifecycle


def line(incarnation: int, **more: Any) -> bytes:
    """As the supervisor writes it: the JSON of its own message."""
    given: dict[str, Any] = {
        "seq": incarnation, "at": 1000.0 + incarnation, "name": "a", "bot_id": 7, "incarnation": incarnation,
        "from_state": "running", "to_state": "backoff", "reason": "exit 1", "exit": "exit 1", "failure": "crash",
    }  # fmt: skip
    return msgspec.json.encode(Lifecycle(**(given | more))) + b"\n"


def incarnations(logs: Path, **more: Any) -> list[int]:
    return [death.incarnation for death in read_deaths(logs, **more)]


def test_every_field_of_the_message_arrives(tmp_path: Path) -> None:
    told = {
        "pid": 5, "exit": "signal 9", "failure": "hang", "duration": 2.5, "log_tail": ["é", "x"], "action": "restarted",
        "cause": "no heartbeat", "stacks": "Thread …", "memory_mb": 17.5, "silent_for": 10.5, "reason": "why",
    }  # fmt: skip
    (tmp_path / "deaths.log").write_bytes(line(1, **told))
    (death,) = read_deaths(tmp_path)
    assert {key: getattr(death, key) for key in told} == told | {"log_tail": ("é", "x")}
    assert {field.name for field in msgspec.structs.fields(Lifecycle)} <= {*death.__slots__}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n", b"\x00\xff\xfe\n", b"{}\n", b"[]\n", b"null\n", b'{"type":"Lifecycle"}\n', b"[botctl: 3 lost]\n",
        line(9)[:40] + b"\n", b'{"type":"Lifecycle"' * 3000 + b"\n", b"[" * 100_000 + b"\n",
        line(9, exit=None), line(9, at=1e300), line(9).replace(b'"incarnation":9', b'"incarnation":"x"'),
        line(9).replace(b"Lifecycle", b"Other"),
    ],
)  # fmt: skip
def test_what_is_no_death_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "deaths.log").write_bytes(line(1) + garbage + line(2))
    assert incarnations(tmp_path) == [2, 1]


def test_a_last_line_that_was_cut_off_is_passed_over_and_one_behind_a_half_line_is_found(tmp_path: Path) -> None:
    (tmp_path / "deaths.log").write_bytes(line(1) + line(2)[:60] + line(3) + line(4)[:-20])
    assert incarnations(tmp_path) == [3, 1]


def test_a_last_line_without_its_end_of_line_counts(tmp_path: Path) -> None:
    (tmp_path / "deaths.log").write_bytes(line(1)[:-1])
    assert incarnations(tmp_path) == [1]


def test_rotated_files_are_read_newest_first_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "deaths.log").write_bytes(line(4))
    (tmp_path / "deaths.log.1").write_bytes(line(3) + line(4))  # as if it were rotated while it is read
    (tmp_path / "deaths.log.2").write_bytes(line(1) + line(2))
    assert [file.name for file in death_files(tmp_path)] == ["deaths.log", "deaths.log.1", "deaths.log.2"]
    assert incarnations(tmp_path) == [4, 3, 2, 1]
    (tmp_path / "deaths.log").unlink()
    (tmp_path / "deaths.log.1").unlink()
    assert incarnations(tmp_path) == [2, 1]


def test_no_more_than_the_end_is_read_and_only_whole_lines_of_it(tmp_path: Path) -> None:
    size = len(line(1))
    (tmp_path / "deaths.log").write_bytes(b"".join(line(number) for number in range(1, 9)))
    (tmp_path / "deaths.log.1").write_bytes(line(0))
    assert incarnations(tmp_path, limit=3 * size + size // 2) == [8, 7, 6]
    assert incarnations(tmp_path, limit=10 * size) == [8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_the_same_incarnation_of_another_daemon_is_another_death(tmp_path: Path) -> None:
    (tmp_path / "deaths.log").write_bytes(line(1) + line(1, at=5000.0))
    assert [death.at for death in read_deaths(tmp_path)] == [5000.0, 1001.0]


def test_without_a_folder_there_are_no_deaths(tmp_path: Path) -> None:
    assert read_deaths(tmp_path / "none") == []
    (tmp_path / "file").touch()
    assert read_deaths(tmp_path / "file") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "deaths.log").touch(mode=0o000)
    with pytest.raises(PermissionError):
        read_deaths(tmp_path)
