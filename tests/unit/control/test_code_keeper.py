"""Copies of developers' code: what belongs to one, its bounds, and which are kept."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from botctl.control.rollouts import code_keeper
from botctl.control.rollouts.code_keeper import KEPT, CodeKeeper, _read


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fleet file's folder with what people have in one."""
    folder = tmp_path / "project"
    for name in (
        "shop.py", "wares/__init__.py", "wares/prices.py", "wares/prompt.txt", ".git/hook.py", "venv/pyvenv.cfg",
        "venv/lib/thing.py", "node_modules/x.py", "wares/__pycache__/prices.cpython-311.py", "data/postgres/x.py",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    return folder


def keeper_of(project: Path) -> CodeKeeper:
    return CodeKeeper(project / "data" / "code")


async def test_a_copy_has_the_sources_of_the_project_and_nothing_else(project: Path):
    keeper = keeper_of(project)
    (project / "loop").symlink_to(project)
    (project / "gone.py").symlink_to(project / "nowhere.py")
    name = await keeper.keep(str(project))
    place = Path(keeper.path_of(name))
    found = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert found == ["shop.py", "wares/__init__.py", "wares/prices.py"]
    assert (place / "shop.py").read_text() == "# shop.py\n"
    assert place.parent.stat().st_mode & 0o077 == 0


async def test_only_regular_files_below_the_folder_are_read(project: Path, tmp_path: Path):
    outside = tmp_path / "outside.py"
    outside.write_text("# another project's\n")
    os.mkfifo(project / "pipe.py")
    (project / "zero.py").symlink_to("/dev/zero")
    (project / "outside.py").symlink_to(outside)
    (project / "circle.py").symlink_to(project / "circle.py")
    (project / "folder.py").mkdir()
    (project / "prices.py").symlink_to("wares/prices.py")
    keeper = keeper_of(project)
    async with asyncio.timeout(5):
        place = Path(keeper.path_of(await keeper.keep(str(project))))
    assert keeper.problem == ""
    assert {path.name for path in place.iterdir()} == {"shop.py", "wares", "prices.py"}
    assert (place / "prices.py").read_text() == "# wares/prices.py\n"
    assert not (place / "prices.py").is_symlink()


def test_what_takes_a_files_place_before_it_is_read_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to("/dev/zero")
    assert _read(tmp_path / "pipe.py") is None
    assert _read(tmp_path / "link.py") is None
    assert _read(tmp_path / "gone.py") is None
    assert _read(Path("/proc/self/status")) == b"", "no more than its size, whatever comes"


async def test_the_same_code_has_the_same_copy_and_other_code_another(project: Path):
    keeper = keeper_of(project)
    first = await keeper.keep(str(project))
    assert await keeper.keep(str(project)) == first
    (project / "wares" / "prices.py").write_text("# dearer\n")
    second = await keeper.keep(str(project))
    assert second not in ("", first)
    (project / "wares" / "prices.py").write_text("# wares/prices.py\n")
    assert await keeper.keep(str(project)) == first


@pytest.mark.parametrize(("bound", "value"), [("MOST_FILES", 2), ("MOST_BYTES", 20), ("MOST_ENTRIES", 5)])
async def test_what_is_too_much_is_not_copied_and_the_reason_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
):
    monkeypatch.setattr(code_keeper, bound, value)
    keeper = keeper_of(project)
    assert await keeper.keep(str(project)) == ""
    assert "more than" in keeper.problem
    assert not (project / "data" / "code").exists()
    monkeypatch.undo()
    assert await keeper.keep(str(project))
    assert keeper.problem == ""


async def test_a_folder_that_is_gone_is_no_accident(project: Path):
    keeper = keeper_of(project)
    assert await keeper.keep(None) == ""
    assert keeper.problem


async def test_the_next_control_knows_what_bots_were_started_with(project: Path):
    keeper = keeper_of(project)
    name = await keeper.keep(str(project))
    keeper.started([1, 2], name)
    keeper.started([2], "")
    again = keeper_of(project)
    assert (again.name_of(1), again.name_of(2), again.name_of(3)) == (name, "", "")
    (project / "data" / "code" / "index.json").write_text("nonsense")
    assert keeper_of(project).name_of(1) == ""


async def test_the_last_few_copies_are_kept_and_those_in_use_always(project: Path):
    keeper = keeper_of(project)
    names = []
    for number in range(KEPT + 4):
        (project / "shop.py").write_text(f"# {number}\n")
        names.append(await keeper.keep(str(project)))
        os.utime(keeper.path_of(names[-1]), (number, number))
    keeper.started([1], names[0])
    left = {place.name for place in (project / "data" / "code").iterdir() if place.is_dir()}
    assert left == {names[0], *names[-KEPT:]}
