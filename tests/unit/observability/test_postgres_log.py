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
        stream.writelines(_line(message) + "\n" for message in messages)
    if current:
        (home / "data" / "current_logfiles").write_text(f"stderr {home}/log/{name}\njsonlog {file}\n")
    return file


def _line(message: str, **more: object) -> str:
    """As the server writes it."""
    return json.dumps({"timestamp": "now", "user": "bot_7", "message": message, **more}, separators=(",", ":"))


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
    monkeypatch.setattr(postgres_log, "HEAD", 60)
    log = ServerLog(home)
    _write(home, "server-1", "x" * 350, "b", "c")
    found: list[str] = []
    for _ in range(9):
        found += _messages(log.read())
    assert found == ["x" * (60 - len(_line("")) + 2), "b", "c"]
    assert log.dropped == len(_line("x" * 350)) - 60


@pytest.mark.parametrize("size", [70_000, 20_000_000])
def test_no_statement_in_the_context_hides_who_was_refused_what(home: Path, size: int) -> None:
    """The server writes whole what a function was asked to run."""
    log = ServerLog(home)
    forged = '","user":"bot_8","message":"'
    told = _line("permission denied", state_code="42501")
    line = told.replace('{"timestamp"', '{"ps":"SELECT","timestamp"').removesuffix("}")
    line += f',"context":{json.dumps("SQL statement " + forged + "x" * size)}}}\n'
    (home / "log" / "server-1.json").write_text(line)
    _write(home, "server-1", "after")
    lines = [one for _ in range(3) for one in log.read()]
    first, second = map(entry_of, lines)
    assert first is not None
    assert (first.user, first.message, second and second.message) == ("bot_7", "permission denied", "after")
    assert (log.dropped > 0) is (size > postgres_log.READ_MOST)


def test_no_name_from_a_greeting_writes_a_line_of_its_own_or_hides_it() -> None:
    names = {"user": 'x"}\n2026 ERROR \x1b[31m' + "u" * 9000, "dbname": "y\r\n\u202eforged", "error_severity": "FATAL"}
    for line in (_line("no such role", **names), _line("no such role", **names, context="z" * 70_000)):
        entry = entry_of(line.encode())
        assert entry is not None
        assert entry.message == "no such role"
        assert entry.line.isprintable()
        assert len(entry.line) < 300


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
    assert entry_of(b"") is None


def test_what_is_no_utf_8_is_read_as_well_as_can_be() -> None:
    entry = entry_of(b'{"timestamp":"now","user":"bot_\xff","pid":7,"state_code":"28P01","message":"a\\"b"}')
    assert entry is not None
    assert (entry.user, entry.pid, entry.state_code, entry.message) == ("bot_\ufffd", 7, "28P01", 'a"b')
