"""What modes keep from a uid, wherever a capability would read it all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.runtime.confinement import modes

STRANGER = 0x70000001
"""Owns nothing here."""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    folder = tmp_path / "fleet"
    for name in ("shop/deep", "closed/deep", "listed", ".git", "data"):
        (folder / name).mkdir(parents=True)
    for name in ("bot.py", "prod.env", "shop/prices.py", "shop/deep/one", "closed/deep/open", ".git/x", "data/x"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644)
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    return folder


def closed(folder: Path, **more: object) -> tuple[set[str], str]:
    found = modes.closed_to(STRANGER, str(folder), places=(), **more)  # type: ignore[arg-type]
    return {str(Path(path).relative_to(folder)) for path in found.paths}, found.note


def test_files_and_folders_that_others_may_not_read_are_closed(fleet: Path) -> None:
    assert closed(fleet) == (set(), "")
    for name, mode in {"prod.env": 0o600, "shop/deep/one": 0o640, "closed": 0o700, "listed": 0o744}.items():
        (fleet / name).chmod(mode)
    assert closed(fleet) == ({"prod.env", "shop/deep/one", "closed", "listed"}, "")


def test_ones_own_are_judged_by_the_owners_rights(fleet: Path) -> None:
    (fleet / "prod.env").chmod(0o600)
    (fleet / "shop/deep/one").chmod(0o044)
    found = modes.closed_to((fleet / "prod.env").stat().st_uid, str(fleet), places=())
    assert found.paths == [str(fleet / "shop/deep/one")]


def test_handlers_are_never_closed_but_code_below_is(fleet: Path) -> None:
    (fleet / "more.py").write_text("x")
    (fleet / "bot.py").chmod(0o600)
    (fleet / "shop/prices.py").chmod(0o600)
    assert closed(fleet) == ({"shop/prices.py"}, "")


def test_where_no_code_is_open_modes_tell_nothing_and_it_is_said(fleet: Path) -> None:
    (fleet / "shop").chmod(0o700)
    (fleet / "prod.env").chmod(0o600)
    (fleet / "bot.py").chmod(0o600)
    names, note = closed(fleet)
    assert names == set()
    assert "chmod -R go+rX" in note


def test_what_links_beside_the_handlers_lead_to_is_looked_at_too(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir(mode=0o755)
    for name in ("models/one", "account.json"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    (fleet / "models").symlink_to(tmp_path / "models")
    (fleet / "account").symlink_to(tmp_path / "account.json")
    found = modes.closed_to(STRANGER, str(fleet), places=())
    assert set(found.paths) == {str(tmp_path / "models/one"), str(tmp_path / "account.json")}


def test_places_of_administrators_are_looked_at(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("x")
    (tmp_path / "backup").chmod(0o700)
    assert modes.closed_to(STRANGER, "", places=[str(tmp_path)]).paths == [str(tmp_path / "backup")]


def test_what_is_private_or_hidden_is_not_looked_into(fleet: Path) -> None:
    for name in (".git/x", "data/x"):
        (fleet / name).chmod(0o600)
    assert closed(fleet, private=[str(fleet / "data")]) == (set(), "")


def test_beyond_so_many_entries_all_stays_closed_and_it_is_said(fleet: Path) -> None:
    names, note = closed(fleet, at_most=6)
    assert names == {"shop", "closed", "listed", "data"}
    assert "too many files" in note
