"""A small file system of one's own, in a mount namespace that ends with its processes; and whoever fills it up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

CHUNK = bytes(1 << 20)
TOP_UP_EVERY = 0.05
"""Seconds after which what others have given back is taken, too."""


class NoRightError(Exception):
    """This machine doesn't allow a mount namespace; the message says what is missing."""


def in_namespace(command: Sequence[str]) -> int:
    """Run a command where it may mount, with a TMPDIR that goes afterwards; its exit code. Raises NoRightError."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise NoRightError("there is no unshare(1)")
    base = [unshare, "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    with _folder() as folder:
        tried = subprocess.run([*base, "mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False)
        if tried.returncode:
            raise NoRightError(f"a mount namespace is not allowed: {tried.stderr.decode(errors='replace').strip()}")
        environment = {**os.environ, "TMPDIR": str(folder)}
        return subprocess.run([*base, sys.executable, *command], env=environment, check=False).returncode


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short one that servers without rights may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-disk-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mount(place: Path, megabytes: int) -> None:
    """A new, empty file system of that size there."""
    place.mkdir(parents=True, exist_ok=True)
    mode = oct(place.stat().st_mode & 0o777)[2:]
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode={mode}", "none", str(place)],
        check=True,
        capture_output=True,
    )


@asynccontextmanager
async def full(place: Path) -> AsyncIterator[None]:
    """While it is entered, the file system has no room: what others free is taken at once."""
    path = place / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def keep() -> None:
        while True:
            await asyncio.to_thread(_fill, descriptor)
            await asyncio.sleep(TOP_UP_EVERY)

    try:
        await asyncio.to_thread(_fill, descriptor)
        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
    finally:
        os.close(descriptor)
        path.unlink()


def _fill(descriptor: int) -> None:
    for size in (1 << 20, 1 << 12):
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, CHUNK[:size])
