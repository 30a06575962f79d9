"""A copy of old code is run under the name of the new: sources from the copy, everything else from where it stands."""

from __future__ import annotations

import importlib
import py_compile
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from botctl.bot.code_copy import CopyFinder, install_copy


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder with new code on the path, and a copy of the old code."""
    folder, copy = tmp_path / "project", tmp_path / "copy"
    before = set(sys.modules)
    for place, word in ((folder, "new"), (copy, "old")):
        for name in ("cc_plain.py", "cc_pack/__init__.py", "cc_pack/deep.py", "cc_space/inner.py"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(f"word = {word!r}\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder, copy
    sys.path.remove(str(folder))
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, CopyFinder)]
    for name in set(sys.modules) - before:
        if name.startswith("cc_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["cc_plain", "cc_pack", "cc_pack.deep", "cc_space.inner"])
def test_modules_packages_and_namespaces_come_from_the_copy_under_their_old_names(places, name: str):
    folder, copy = places
    install_copy(folder, copy)
    module = importlib.import_module(name)
    assert module.word == "old"
    assert Path(module.__file__).is_relative_to(folder)


def test_bytecode_of_the_new_code_is_not_taken_for_the_old(places):
    folder, copy = places
    py_compile.compile(str(folder / "cc_plain.py"))
    (copy / "cc_plain.py").touch()
    install_copy(folder, copy)
    assert importlib.import_module("cc_plain").word == "old"
    assert not list(copy.rglob("__pycache__"))


def test_data_files_beside_a_module_are_found_and_what_the_copy_lacks_is_imported_from_disk(places):
    folder, copy = places
    (folder / "cc_only_new.py").write_text("word = 'new'\n")
    (folder / "cc_pack" / "prompt.txt").write_text("Be kind.")
    (copy / "cc_pack" / "deep.py").write_text(
        "from pathlib import Path\ntext = Path(__file__).with_name('prompt.txt').read_text()\n"
    )
    install_copy(folder, copy)
    assert importlib.import_module("cc_pack.deep").text == "Be kind."
    assert importlib.import_module("cc_only_new").word == "new"


def test_code_that_is_gone_from_disk_still_runs(places):
    folder, copy = places
    (folder / "cc_plain.py").unlink()
    install_copy(folder, copy)
    assert importlib.import_module("cc_plain").word == "old"


def test_a_traceback_shows_the_lines_that_ran(places):
    folder, copy = places
    (folder / "cc_plain.py").write_text("innocent = 1\n")
    (copy / "cc_plain.py").write_text("raise ValueError('from the old one')\n")
    install_copy(folder, copy)
    with pytest.raises(ValueError, match="from the old one") as raised:
        importlib.import_module("cc_plain")
    assert "raise ValueError('from the old one')" in "".join(traceback.format_exception(raised.value))


def test_a_folder_of_the_project_hides_no_installed_package(places):
    folder, copy = places
    for place in (folder, copy):
        (place / "yaml").mkdir()
        (place / "yaml" / "notes.py").write_text("")
    install_copy(folder, copy)
    spec = importlib.util.find_spec("yaml")
    assert spec is not None
    assert spec.origin is not None
    assert "site-packages" in spec.origin
