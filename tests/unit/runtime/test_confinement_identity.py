"""A bot's uid and its own folder."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from botctl.runtime.confinement import identity, syscalls
from botctl.runtime.messages import Isolation


def wish(home: Path, **more: int) -> Isolation:
    return Isolation(home=str(home), **{"uid_base": 0x70000000, "uid_count": 2**27, **more})


def test_a_bots_uid_follows_from_its_folder(tmp_path: Path) -> None:
    one, other = wish(tmp_path / "1"), wish(tmp_path / "2")
    assert identity._choose(one, set()) == identity._choose(one, set())
    assert identity._choose(one, set()) != identity._choose(other, set())


def test_nobody_gets_a_uid_that_somebody_has(tmp_path: Path) -> None:
    first = identity._choose(wish(tmp_path / "1"), set())
    assert identity._choose(wish(tmp_path / "1"), {first}) == first + 1
    names = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid >= 60000}
    taken = sorted(names)[0]
    with pytest.raises(OSError, match="no uid is free"):
        identity._choose(wish(tmp_path / "1", uid_base=taken, uid_count=1), set())


def test_leftovers_are_removed_and_links_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.environ["HOME"])
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    (kept / "file").write_text("x")
    home = tmp_path / "home"
    (home / "tmp/deep/er").mkdir(parents=True)
    (home / "tmp/file").write_text("x")
    (home / "tmp/link").symlink_to(kept)
    identity.live_in(str(home))
    assert list((home / "tmp").iterdir()) == []
    assert (kept / "file").exists()
    assert (os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"]) == (str(home), str(home), f"{home}/tmp")


def test_a_link_in_place_of_the_temporary_folder_empties_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", os.environ["HOME"])
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    (kept / "file").write_text("x")
    home = tmp_path / "home"
    home.mkdir()
    (home / "tmp").symlink_to(kept)
    identity.live_in(str(home))
    assert (kept / "file").exists()


def test_the_filter_of_system_calls_is_one_the_kernel_takes_whole() -> None:
    for machine in ("x86_64", "aarch64"):
        assert 0 < len(syscalls.program(machine)) // 8 < 4096
    with pytest.raises(KeyError):
        syscalls.program("vax")
