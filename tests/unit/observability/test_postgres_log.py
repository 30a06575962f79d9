"""The embedded server's messages: read once, whatever is rotated, cut short, flooded, or said by a bot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from botctl.observability import postgres_log
from botctl.observability.postgres_log import ServerLog, entry_of, waiting


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path


def _write(home: Path, name: str, *messages: str, current: bool = True) -> Path:
    file = home / "log" / f"{name}.json"
    with file.open("a") as stream:
        stream.writelines(json.dumps({"user": "bot_7", "message": message}) + "\n" for message in messages)
    if current:
        (home / "data" / "current_logfiles").write_text(f"stderr {home}/log/{name}\njsonlog {file}\n")
    return file


def _messages(lines: list[bytes]) -> list[str]:
    return [entry.message for line in lines if (entry := entry_of(line)) is not None]


def test_each_message_is_read_once_across_rotations_and_by_the_next_reader(home: Path) -> None:
    log = ServerLog(home)
    old = _write(home, "server-1", "a", "b")
    assert _messages(log.read()) == ["a", "b"]
    log.keep()
    _write(home, "server-1", "c", current=False)
    _write(home, "server-2", "d")
    log = ServerLog(home)
    assert _messages(log.read()) == ["c", "d"]
    assert old.exists()
    log.keep()
    assert not old.exists()
    assert _messages(log.read()) == []


def test_a_file_in_use_stays_even_when_its_name_is_an_older_one(home: Path) -> None:
    log = ServerLog(home)
    _write(home, "server-2", "a")
    kept = _write(home, "server-1", "b")
    assert _messages(log.read()) == ["b", "a"]
    log.keep()
    _write(home, "server-1", "c")
    assert kept.exists()
    assert _messages(log.read()) == ["c"]


def test_half_a_line_waits_for_its_end(home: Path) -> None:
    log = ServerLog(home)
    file = _write(home, "server-1", "a")
    with file.open("a") as stream:
        stream.write('{"message": "b')
        stream.flush()
        assert _messages(log.read()) == ["a"]
        stream.write('c"}\n')
    assert _messages(log.read()) == ["bc"]


def test_what_never_ends_hides_nothing_that_comes_after(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_log, "READ_MOST", 100)
    log = ServerLog(home)
    _write(home, "server-1", "x" * 250, "b")
    found: list[str] = []
    for _ in range(5):
        found += _messages(log.read())
    assert found == ["b"]


def test_a_flood_that_nobody_can_read_is_dropped_from_its_oldest_end_and_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_log, "KEEP_MOST", 100)
    log = ServerLog(home)
    old = _write(home, "server-1", "a" * 90)
    _write(home, "server-2", "b")
    assert _messages(log.read()) == ["b"]
    assert log.dropped == old.stat().st_size
    log.keep()
    assert not old.exists()


def test_what_nobody_has_read_yet_can_be_shown(home: Path) -> None:
    log = ServerLog(home)
    _write(home, "server-1", "a")
    log.read()
    log.keep()
    _write(home, "server-1", "evil\nline", "long" * 1000)
    shown = list(waiting(home))
    assert len(shown) == 2
    assert "bot_7@" in shown[0]
    assert "evil line" in shown[0]
    assert len(shown[1]) < 600
    assert list(waiting(home)) == shown


def test_what_is_no_message_is_none() -> None:
    assert entry_of(b"malloc(): corrupted top size") is None
    assert entry_of(b'{"user": 7}') is None
    assert entry_of(b'{"message": "\xff"}') is None
