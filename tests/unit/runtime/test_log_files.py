from __future__ import annotations

from pathlib import Path

from botctl.runtime.log_stream import CUT_WINDOW, LONGEST_LINE, _harmless_cut
from botctl.runtime.rotating_file import RotatingFile


def test_a_full_file_is_rotated_and_the_oldest_dropped(tmp_path: Path):
    file = RotatingFile(tmp_path / "bot.log", max_bytes=100, backups=2)
    for number in range(50):
        file.write(f"line {number:03}\n".encode())
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bot.log", "bot.log.1", "bot.log.2"]
    kept = b"".join((tmp_path / name).read_bytes() for name in ("bot.log.2", "bot.log.1", "bot.log"))
    assert kept.endswith(b"line 049\n")
    assert len(kept) <= 300
    assert all((tmp_path / name).stat().st_size <= 100 for name in ("bot.log", "bot.log.1", "bot.log.2"))


def test_a_reopened_file_goes_on_where_it_was(tmp_path: Path):
    for _ in range(2):
        file = RotatingFile(tmp_path / "bot.log", max_bytes=15, backups=1)
        file.write(b"ten bytes\n")
        file.close()
    assert (tmp_path / "bot.log.1").read_bytes() == b"ten bytes\n"


def test_a_folder_that_is_gone_loses_lines_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "logs"
    file = RotatingFile(folder / "bot.log", max_bytes=100, backups=1)
    file.write(b"lost\n")
    folder.mkdir()
    file._retry_at = 0.0
    file.write(b"kept\n")
    assert (folder / "bot.log").read_bytes() == b"[botctl: 1 writes were lost]\nkept\n"


def test_a_long_line_is_not_cut_within_a_token():
    token = b"123456789:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
    for offset in range(-len(token), 1):
        line = b"x " * ((LONGEST_LINE + offset) // 2) + token + b" y" * CUT_WINDOW
        cut = _harmless_cut(line, LONGEST_LINE)
        assert LONGEST_LINE - CUT_WINDOW <= cut <= LONGEST_LINE
        assert token in line[:cut] or token in line[cut:]
