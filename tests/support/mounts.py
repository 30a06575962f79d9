"""Commands on a file system of their own: a small one, a full one, one that can't be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def in_mount(tmp_path: Path, mount: str, action: str) -> subprocess.CompletedProcess[str]:
    """Run the daemon on a file system of its own, mounted in a namespace of its own; skips where that isn't allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare(1)")
    base = [unshare, "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-ec"]
    if subprocess.run([*base, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False).returncode:
        pytest.skip("this machine doesn't allow a mount namespace")
    return subprocess.run([*base, f"{mount}\n{action}"], capture_output=True, text=True, check=False, timeout=60)
