"""Runs a developer's modules from a copy that was kept of them, as after a rollout that was taken back.

Modules keep the `__file__` and `__path__` of their place beside the fleet file, so that data files beside them are
found; only Python source comes from the copy. What it lacks (installed packages, C extensions) is found as always.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


def install_copy(folder: Path, copy: Path) -> None:
    """Import modules of `folder` from `copy` from now on. For a process that has imported none of them yet."""
    sys.meta_path.insert(0, CopyFinder(folder, copy))


class CopyFinder(importlib.abc.MetaPathFinder):
    """Finds what stands in `copy` where the import system would look for it in `folder`."""

    def __init__(self, folder: Path, copy: Path) -> None:
        self._folder = folder
        self._copy = copy

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A module or a package of the copy; None for all others."""
        name = fullname.rpartition(".")[2]
        for entry in sys.path if path is None else path:
            where = self._relative(entry)
            if where is None:
                continue
            if (self._copy / where / name / "__init__.py").is_file():
                return self._spec(fullname, where / name / "__init__.py", [self._folder / where / name])
            if (self._copy / where / f"{name}.py").is_file():
                return self._spec(fullname, where / f"{name}.py", None)
            if (self._copy / where / name).is_dir():
                return self._namespace(fullname, path, self._folder / where / name)
        return None

    def _relative(self, entry: str) -> Path | None:
        try:
            return Path(entry).relative_to(self._folder)
        except ValueError:
            return None

    def _spec(self, fullname: str, source: Path, locations: list[Path] | None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(
            fullname,
            self._folder / source,
            loader=CopyLoader(str(self._folder / source), self._copy / source),
            submodule_search_locations=None if locations is None else [str(place) for place in locations],
        )

    @staticmethod
    def _namespace(fullname: str, path: Sequence[str] | None, folder: Path) -> importlib.machinery.ModuleSpec | None:
        """A folder without `__init__.py`; a real module or package of that name further down the path goes first."""
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is not None and found.origin is not None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


class CopyLoader(importlib.abc.SourceLoader):
    """Loads the source of one file of the copy under its original name; neither reads nor writes bytecode."""

    def __init__(self, original: str, copy: Path) -> None:
        self._original = original
        self._copy = copy

    def get_filename(self, fullname: str) -> str:
        """Where the module stood, and perhaps another now stands."""
        return self._original

    def get_data(self, path: str) -> bytes:
        """The old source; any other file from where it is."""
        return self._copy.read_bytes() if path == self._original else Path(path).read_bytes()

    def exec_module(self, module: ModuleType) -> None:
        """Run it; tracebacks show the lines that ran, not those now on disk."""
        source = importlib.util.decode_source(self._copy.read_bytes())
        linecache.cache[self._original] = (len(source), None, source.splitlines(keepends=True), self._original)
        super().exec_module(module)
