"""The last lines of logs, and following them across rotation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from botctl.cli.tail import follow_logs, last_lines, log_files
from botctl.settings.places import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path)
    made.logs.mkdir()
    return made


@pytest.mark.parametrize(
    ("text", "count", "lines"),
    [
        ("", 3, []),
        ("a\n", 3, ["a"]),
        ("a\nb\nc\n", 2, ["b", "c"]),
        ("a\nb\nc", 2, ["b", "c"]),
        ("a\n\n\n", 2, ["", ""]),
        ("a\nb\n", 0, []),
        ("x" * 200_000 + "\nend\n", 1, ["end"]),
    ],
)
def test_the_last_lines_are_read(tmp_path: Path, text: str, count: int, lines: list[str]) -> None:
    file = tmp_path / "a.log"
    file.write_text(text)
    assert last_lines(file, count) == lines


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "gone.log", 5) == []


def take(lines: Iterator[tuple[Path, str]], count: int) -> list[str]:
    found: list[str] = []
    done = threading.Event()

    def read() -> None:
        for _, line in lines:
            found.append(line)
            if len(found) == count:
                break
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(5.0), found
    return found


def test_following_goes_on_in_the_new_file_after_a_rotation(folder: DataFolder) -> None:
    log = folder.log("a")
    log.write_text("old\n")
    lines = follow_logs(folder, "a", log_files(folder, "a"))
    with log.open("a") as file:
        # The follower looks when it is first asked; what is appended later than that is new.
        threading.Timer(0.2, lambda: (file.write("one\n"), file.flush())).start()
        assert take(lines, 1) == ["one"]
        log.rename(log.with_suffix(".log.1"))
        log.write_text("three\n")
        file.write("two\n")
    assert take(lines, 2) == ["two", "three"]


def test_following_all_takes_up_logs_that_appear(folder: DataFolder) -> None:
    lines = follow_logs(folder, None, [])
    folder.log("new").write_text("first\n")
    assert take(lines, 1) == ["first"]
